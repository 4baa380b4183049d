//! Why a statement could not be planned or answered.

/// The statement gets no rows and no plan.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The storage failed: the end of the node's service, never an answer to a client.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The statement is refused; it changed nothing.
    #[error(transparent)]
    Refused(#[from] types::Error),
}

/// Short form for this crate.
pub type Result<T, E = Failure> = std::result::Result<T, E>;
