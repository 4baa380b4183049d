//! Who asks: passwords, tokens, accounts.

pub mod founding;
pub mod passwords;
pub mod tokens;
