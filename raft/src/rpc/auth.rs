//! Nodes prove to each other that they know the cluster's secret, and say who they are and whom
//! they mean.
//!
//! ```text
//! caller                                             called
//!   cluster, from, to, caller nonce             →
//!                                               ←    called nonce, ticket, proof("called")
//!   every RPC: all of the above, proof("caller") →
//! ```
//! A proof is an HMAC-SHA256 with the secret over a label, the cluster, both numbers and both
//! nonces: the secret is never sent, and a proof for one pair of nodes, direction or cluster is
//! none for another. The ticket is an HMAC with a key that the called process made when it started:
//! by it the process knows its own nonce again without keeping a table, so unproven callers cost it
//! no memory, and what was recorded before a restart is worth nothing after it.
//!
//! Protects against: nodes and programs that do not know the secret; a node of another cluster, or
//! another node than the one meant, behind an address; a called node that does not know the secret;
//! what was recorded before the called process started.
//! Does not protect against one who can read the traffic (who can use what he read until the called
//! process restarts) or change it: where the network is not trusted, use mutual TLS. A weak secret
//! can be guessed offline from one recorded handshake: use a long random one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;
use tonic::Status;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use types::ids::NodeId;

use crate::options::Secret;

/// The metadata every RPC but the handshake carries.
pub const SESSION_KEY: &str = "duet-session-bin";
/// Bytes of a nonce.
const NONCE_BYTES: usize = 16;
/// Longest name of a cluster, in bytes; ours are ULIDs.
const CLUSTER_ID_MAX_BYTES: usize = 64;
/// Largest message of a handshake, which a node reads of anybody.
pub(super) const HANDSHAKE_MAX_BYTES: usize = 4 * 1024;
/// How many different refusals of callers who proved themselves are logged before the rest is
/// silent.
const LOGGED_REFUSALS_MAX: usize = 64;

const LABEL_CALLED: &[u8] = b"duet called v1";
const LABEL_CALLER: &[u8] = b"duet caller v1";
const LABEL_TICKET: &[u8] = b"duet ticket v1";

/// The first message between two nodes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HandshakeRequest {
    /// The caller's cluster; empty: it belongs to none yet.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
    /// The caller; 0: it has no number yet.
    #[prost(uint64, tag = "2")]
    pub from: NodeId,
    /// Who is meant; 0: whoever is there.
    #[prost(uint64, tag = "3")]
    pub to: NodeId,
    /// Random.
    #[prost(bytes = "bytes", tag = "4")]
    pub caller_nonce: Bytes,
}

/// The answer to [`HandshakeRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HandshakeResponse {
    /// Random.
    #[prost(bytes = "bytes", tag = "1")]
    pub called_nonce: Bytes,
    /// By this the called process knows its nonce again.
    #[prost(bytes = "bytes", tag = "2")]
    pub ticket: Bytes,
    /// That the called node knows the secret.
    #[prost(bytes = "bytes", tag = "3")]
    pub proof: Bytes,
}

/// What every RPC carries.
#[derive(Clone, PartialEq, Eq, Message)]
struct Session {
    #[prost(message, required, tag = "1")]
    request: HandshakeRequest,
    #[prost(bytes = "bytes", tag = "2")]
    called_nonce: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    ticket: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    proof: Bytes,
}

/// Who this node is, for calling others.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its cluster; empty: none yet.
    pub cluster_id: String,
    /// Its number; 0: none yet.
    pub node_id: NodeId,
    /// What it proves itself by.
    pub secret: Secret,
}

/// The called node could not prove that it knows the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node called does not know the cluster's secret")]
pub struct NotProven;

impl Identity {
    /// A fresh handshake with node `to`; 0: with whoever is there.
    pub fn handshake(&self, to: NodeId) -> HandshakeRequest {
        HandshakeRequest {
            cluster_id: self.cluster_id.clone(),
            from: self.node_id,
            to,
            caller_nonce: nonce(),
        }
    }

    /// What every RPC to the node that gave `response` has to carry under [`SESSION_KEY`].
    pub fn session(
        &self,
        request: HandshakeRequest,
        response: HandshakeResponse,
    ) -> Result<BinaryMetadataValue, NotProven> {
        let called = mac(
            self.secret.as_bytes(),
            LABEL_CALLED,
            &request,
            &response.called_nonce,
        );
        called
            .verify_slice(&response.proof)
            .map_err(|_| NotProven)?;
        let caller = mac(
            self.secret.as_bytes(),
            LABEL_CALLER,
            &request,
            &response.called_nonce,
        );
        let session = Session {
            request,
            called_nonce: response.called_nonce,
            ticket: response.ticket,
            proof: Bytes::copy_from_slice(&caller.finalize().into_bytes()),
        };
        Ok(BinaryMetadataValue::from_bytes(&session.encode_to_vec()))
    }
}

/// Who sent an RPC that the [`Guard`] let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its number; 0: it has none yet, and may only ask who is there and to join.
    pub node_id: NodeId,
}

/// Lets those in who know the secret, belong to this cluster and mean this node.
#[derive(Clone)]
pub struct Guard {
    shared: Arc<GuardShared>,
}

struct GuardShared {
    secret: Secret,
    /// Signs tickets; made when the process started.
    process_key: [u8; 32],
    /// Cluster and number of this node, once it has them.
    own: Mutex<Option<(String, NodeId)>>,
    logged: Mutex<BTreeSet<(NodeId, String)>>,
    /// Of callers who proved nothing: apart, so that they cannot use up the others' place, and
    /// without a word of theirs.
    logged_unproven: Mutex<BTreeSet<&'static str>>,
}

impl Guard {
    /// A guard of a node that belongs to no cluster yet.
    pub fn new(secret: Secret) -> Guard {
        Guard {
            shared: Arc::new(GuardShared {
                secret,
                process_key: rand::random(),
                own: Mutex::new(None),
                logged: Mutex::new(BTreeSet::new()),
                logged_unproven: Mutex::new(BTreeSet::new()),
            }),
        }
    }

    /// From now on the node is `node_id` of `cluster_id`.
    pub fn belong(&self, cluster_id: impl Into<String>, node_id: NodeId) {
        *lock(&self.shared.own) = Some((cluster_id.into(), node_id));
    }

    /// Cluster and number of this node, once it has them.
    pub fn own(&self) -> Option<(String, NodeId)> {
        lock(&self.shared.own).clone()
    }

    /// Answers the first message of another node. `INVALID_ARGUMENT`: no node of this version says
    /// that.
    pub fn handshake(&self, request: &HandshakeRequest) -> Result<HandshakeResponse, Status> {
        if request.cluster_id.len() > CLUSTER_ID_MAX_BYTES
            || request.caller_nonce.len() != NONCE_BYTES
        {
            self.log_unproven("it said what no node says");
            return Err(Status::invalid_argument("no node shakes hands like this"));
        }
        if let Some(refusal) = self.refusal(request) {
            self.log_unproven(refusal.kind);
            return Err(Status::failed_precondition(refusal.message));
        }
        let called_nonce = nonce();
        let secret = self.shared.secret.as_bytes();
        let proof = mac(secret, LABEL_CALLED, request, &called_nonce);
        let ticket = mac(
            &self.shared.process_key,
            LABEL_TICKET,
            request,
            &called_nonce,
        );
        Ok(HandshakeResponse {
            proof: Bytes::copy_from_slice(&proof.finalize().into_bytes()),
            ticket: Bytes::copy_from_slice(&ticket.finalize().into_bytes()),
            called_nonce,
        })
    }

    /// Checks the metadata of an RPC. `UNAUTHENTICATED`: there is no proof, or it is from before
    /// this process started, and the caller should shake hands again. `FAILED_PRECONDITION`:
    /// another cluster or another node is meant.
    pub fn check(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let request = self.proven(metadata)?;
        Ok(Caller {
            node_id: request.from,
        })
    }

    /// [`Guard::check`], and the caller has to be a node of this cluster that means this very node,
    /// not whoever is at its address. `PERMISSION_DENIED` if not.
    pub fn check_member(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let request = self.proven(metadata)?;
        if request.from == 0 {
            return Err(stranger());
        }
        if request.to == 0 {
            return Err(Status::permission_denied(
                "the caller does not say which node it means",
            ));
        }
        Ok(Caller {
            node_id: request.from,
        })
    }

    /// [`Guard::check`], and the caller has to be a node of this cluster; it may mean whoever is at
    /// its address. `PERMISSION_DENIED` if not.
    pub fn check_neighbour(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let caller = self.check(metadata)?;
        match caller.node_id {
            0 => Err(stranger()),
            _ => Ok(caller),
        }
    }

    /// What the caller said when hands were shaken, if it has proved it.
    fn proven(&self, metadata: &MetadataMap) -> Result<HandshakeRequest, Status> {
        let session = metadata
            .get_bin(SESSION_KEY)
            .and_then(|value| value.to_bytes().ok())
            .and_then(|bytes| Session::decode(bytes).ok())
            .ok_or_else(|| Status::unauthenticated("no session"))?;
        let request = session.request;
        mac(
            &self.shared.process_key,
            LABEL_TICKET,
            &request,
            &session.called_nonce,
        )
        .verify_slice(&session.ticket)
        .map_err(|_| Status::unauthenticated("the session is not of this process"))?;
        let secret = self.shared.secret.as_bytes();
        if mac(secret, LABEL_CALLER, &request, &session.called_nonce)
            .verify_slice(&session.proof)
            .is_err()
        {
            self.log_unproven("it does not know the cluster's secret");
            return Err(Status::unauthenticated("the cluster's secret is another"));
        }
        if let Some(refusal) = self.refusal(&request) {
            self.log_once(request.from, &refusal.message);
            return Err(Status::failed_precondition(refusal.message));
        }
        Ok(request)
    }

    /// Why a caller is refused for what it says, true or not.
    fn refusal(&self, request: &HandshakeRequest) -> Option<Refusal> {
        // Nothing but who it is can be asked of a node without a cluster.
        let (cluster_id, node_id) = self.own()?;
        let (kind, message) = if request.from != 0 && request.cluster_id != cluster_id {
            let message = format!("this is cluster {cluster_id}, not {}", request.cluster_id);
            ("it means another cluster", message)
        } else if request.to != 0 && request.to != node_id {
            let message = format!("this is node {node_id}, not {}", request.to);
            ("it means another node", message)
        } else if request.from == node_id {
            (
                "it has this node's number",
                format!("node {node_id} is this node"),
            )
        } else {
            return None;
        };
        Some(Refusal { kind, message })
    }

    fn log_once(&self, from: NodeId, refusal: &str) {
        let mut logged = lock(&self.shared.logged);
        if logged.len() < LOGGED_REFUSALS_MAX && logged.insert((from, refusal.to_owned())) {
            tracing::warn!(from, refusal, "refused a call of another node");
        }
    }

    /// Each kind is logged once.
    fn log_unproven(&self, kind: &'static str) {
        if lock(&self.shared.logged_unproven).insert(kind) {
            tracing::warn!(why = kind, "refused a caller that has proved nothing");
        }
    }
}

fn stranger() -> Status {
    Status::permission_denied("the caller belongs to no cluster yet")
}

/// Why a caller is refused.
struct Refusal {
    /// Without what the caller said.
    kind: &'static str,
    /// For the caller.
    message: String,
}

fn mac(key: &[u8], label: &[u8], request: &HandshakeRequest, called_nonce: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    let numbers = [request.from.to_be_bytes(), request.to.to_be_bytes()].concat();
    let fields = [
        label,
        request.cluster_id.as_bytes(),
        &numbers,
        &request.caller_nonce,
        called_nonce,
    ];
    for field in fields {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field);
    }
    mac
}

fn nonce() -> Bytes {
    Bytes::copy_from_slice(&rand::random::<[u8; NONCE_BYTES]>())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What the locks of this module guard is replaced as a whole, so a panic leaves it sound.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn identity(cluster_id: &str, node_id: NodeId, secret: &str) -> Identity {
        Identity {
            cluster_id: cluster_id.into(),
            node_id,
            secret: Secret::new(secret),
        }
    }

    fn guard(cluster_id: &str, node_id: NodeId, secret: &str) -> Guard {
        let guard = Guard::new(Secret::new(secret));
        guard.belong(cluster_id, node_id);
        guard
    }

    fn metadata(identity: &Identity, to: NodeId, guard: &Guard) -> MetadataMap {
        let request = identity.handshake(to);
        let response = guard.handshake(&request).unwrap();
        let mut metadata = MetadataMap::new();
        metadata.insert_bin(SESSION_KEY, identity.session(request, response).unwrap());
        metadata
    }

    #[test]
    fn who_knows_the_secret_and_means_this_node_is_let_in() {
        let (one, two) = (identity("c", 1, "s"), guard("c", 2, "s"));
        assert_eq!(
            two.check_member(&metadata(&one, 2, &two)).unwrap(),
            Caller { node_id: 1 }
        );
        let nobody = identity("", 0, "s");
        let asking = metadata(&nobody, 0, &two);
        assert_eq!(two.check(&asking).unwrap(), Caller { node_id: 0 });
        assert_eq!(
            two.check_member(&asking).unwrap_err().code(),
            Code::PermissionDenied
        );
    }

    #[test]
    fn another_cluster_and_another_node_are_refused() {
        let two = guard("c", 2, "s");
        for request in [
            identity("other", 1, "s").handshake(2),
            identity("c", 1, "s").handshake(3),
            identity("c", 2, "s").handshake(2),
        ] {
            assert_eq!(
                two.handshake(&request).unwrap_err().code(),
                Code::FailedPrecondition
            );
        }
    }

    #[test]
    fn a_member_says_which_node_it_means() {
        let (one, two) = (identity("c", 1, "s"), guard("c", 2, "s"));
        let unaddressed = metadata(&one, 0, &two);
        assert!(two.check(&unaddressed).is_ok(), "it may ask who is there");
        let neighbour = two.check_neighbour(&unaddressed).unwrap();
        assert_eq!(neighbour.node_id, 1, "and say where it is itself");
        let stranger = metadata(&identity("", 0, "s"), 0, &two);
        assert_eq!(
            two.check_neighbour(&stranger).unwrap_err().code(),
            Code::PermissionDenied
        );
        assert_eq!(
            two.check_member(&unaddressed).unwrap_err().code(),
            Code::PermissionDenied
        );
    }

    #[test]
    fn who_proves_nothing_costs_no_memory_and_silences_nobody() {
        let two = guard("c", 2, "s");
        let good = identity("other", 1, "s").handshake(2);
        for request in [
            HandshakeRequest {
                cluster_id: "x".repeat(CLUSTER_ID_MAX_BYTES + 1),
                ..good.clone()
            },
            HandshakeRequest {
                caller_nonce: Bytes::from_static(&[0; NONCE_BYTES + 1]),
                ..good.clone()
            },
            HandshakeRequest {
                caller_nonce: Bytes::new(),
                ..good.clone()
            },
        ] {
            assert_eq!(
                two.handshake(&request).unwrap_err().code(),
                Code::InvalidArgument
            );
        }
        for from in 3..1000 {
            let request = HandshakeRequest {
                cluster_id: format!("cluster {from}"),
                from,
                ..good.clone()
            };
            two.handshake(&request).unwrap_err();
        }
        assert!(lock(&two.shared.logged).is_empty());
        assert_eq!(lock(&two.shared.logged_unproven).len(), 2);
    }

    #[test]
    fn a_wrong_secret_is_noticed_on_both_sides() {
        let (one, two) = (identity("c", 1, "wrong"), guard("c", 2, "s"));
        let request = one.handshake(2);
        let response = two.handshake(&request).unwrap();
        assert_eq!(
            one.session(request.clone(), response.clone()),
            Err(NotProven)
        );
        // A caller that does not care about the called node's proof gets no further.
        let session = Session {
            request,
            called_nonce: response.called_nonce,
            ticket: response.ticket,
            proof: response.proof,
        };
        let mut metadata = MetadataMap::new();
        let value = BinaryMetadataValue::from_bytes(&session.encode_to_vec());
        metadata.insert_bin(SESSION_KEY, value);
        assert_eq!(
            two.check(&metadata).unwrap_err().code(),
            Code::Unauthenticated
        );
    }

    #[test]
    fn a_session_is_of_one_process_and_of_what_it_says() {
        let (one, two) = (identity("c", 1, "s"), guard("c", 2, "s"));
        let good = metadata(&one, 2, &two);
        let restarted = guard("c", 2, "s");
        assert_eq!(
            restarted.check(&good).unwrap_err().code(),
            Code::Unauthenticated
        );
        assert_eq!(
            two.check(&MetadataMap::new()).unwrap_err().code(),
            Code::Unauthenticated
        );
        let bytes = good.get_bin(SESSION_KEY).unwrap().to_bytes().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            let mut metadata = MetadataMap::new();
            metadata.insert_bin(SESSION_KEY, BinaryMetadataValue::from_bytes(&forged));
            assert!(two.check(&metadata).is_err(), "bit {bit}");
        }
    }
}
