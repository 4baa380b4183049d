//! Tokens: JWT with HS256 under the cluster's key, so that one node's token works on all.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use types::schema::Role;
use types::{Error, ErrorCode, Result};

/// `iss` of every token.
const ISSUER: &str = "duet";
/// Life of an access token, in seconds.
pub const ACCESS_SECONDS: i64 = 3_600;
/// Life of a refresh token, in seconds.
pub const REFRESH_SECONDS: i64 = 7 * 24 * 3_600;
/// How far clocks of nodes may differ, in seconds, before a fresh token is refused.
const LEEWAY_SECONDS: u64 = 5;

/// What a token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenType {
    /// All requests.
    Access,
    /// Getting new tokens.
    Refresh,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// Who issued it.
    pub iss: String,
    /// When, in seconds since 1970.
    pub iat: i64,
    /// Until when.
    pub exp: i64,
    /// The user's role when it was issued; what counts is the role in the state.
    pub role: Role,
    /// What it is for.
    pub token_type: TokenType,
}

/// Issues and checks the tokens of one cluster.
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Tokens {
    /// With the cluster's key.
    pub fn new(key: &[u8]) -> Tokens {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.leeway = LEEWAY_SECONDS;
        Tokens {
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            validation,
        }
    }

    /// A new token for a user; `now` in seconds since 1970. Also returns when it ends.
    pub fn issue(
        &self,
        user: &str,
        role: Role,
        token_type: TokenType,
        now: i64,
    ) -> Result<(String, i64)> {
        let seconds = match token_type {
            TokenType::Access => ACCESS_SECONDS,
            TokenType::Refresh => REFRESH_SECONDS,
        };
        let exp = now + seconds;
        let claims = Claims {
            sub: user.into(),
            iss: ISSUER.into(),
            iat: now,
            exp,
            role,
            token_type,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map(|token| (token, exp))
            .map_err(|e| Error::new(ErrorCode::InternalError, format!("token not signed: {e}")))
    }

    /// What a genuine token of this type says. TOKEN_EXPIRED or INVALID_CREDENTIALS otherwise.
    pub fn check(&self, token: &str, token_type: TokenType) -> Result<Claims> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation);
        let claims = match data {
            Ok(data) => data.claims,
            Err(e) if matches!(e.kind(), ErrorKind::ExpiredSignature) => {
                return Err(Error::new(ErrorCode::TokenExpired, "the token has expired"));
            }
            Err(_) => return Err(invalid("the token is not valid")),
        };
        if claims.token_type != token_type {
            return Err(invalid("the token is of the wrong type"));
        }
        Ok(claims)
    }
}

/// INVALID_CREDENTIALS with a message that gives nothing away.
pub fn invalid(message: &str) -> Error {
    Error::new(ErrorCode::InvalidCredentials, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 4_000_000_000;

    fn code(result: Result<Claims>) -> Option<ErrorCode> {
        result.err().map(|e| e.code)
    }

    #[test]
    fn a_token_is_good_for_its_cluster_type_and_time() {
        let tokens = Tokens::new(b"one key of thirty-two bytes.....");
        let (access, exp) = tokens
            .issue("alice", Role::User, TokenType::Access, NOW)
            .expect("issues");
        assert_eq!(exp, NOW + ACCESS_SECONDS);
        let claims = tokens.check(&access, TokenType::Access).expect("is good");
        assert_eq!((claims.sub.as_str(), claims.role), ("alice", Role::User));

        let wrong_type = tokens.check(&access, TokenType::Refresh);
        assert_eq!(code(wrong_type), Some(ErrorCode::InvalidCredentials));
        let other = Tokens::new(b"another key of thirty-two bytes.");
        assert_eq!(
            code(other.check(&access, TokenType::Access)),
            Some(ErrorCode::InvalidCredentials)
        );
        let (old, _) = tokens
            .issue("alice", Role::User, TokenType::Access, 1)
            .expect("issues");
        assert_eq!(
            code(tokens.check(&old, TokenType::Access)),
            Some(ErrorCode::TokenExpired)
        );
        let mut forged = access.clone();
        forged.pop();
        assert_eq!(
            code(tokens.check(&forged, TokenType::Access)),
            Some(ErrorCode::InvalidCredentials)
        );
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        let tokens = Tokens::new(b"one key of thirty-two bytes.....");
        // {"alg":"none"} . {"sub":"root","exp":9999999999,...} . (empty)
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290IiwiZXhwIjo5OTk5OTk5OTk5fQ.";
        assert_eq!(
            code(tokens.check(none, TokenType::Access)),
            Some(ErrorCode::InvalidCredentials)
        );
    }
}
