//! Paths of all routes. `{name}` marks a variable part, in the notation of OpenAPI and of axum.

/// Statements in, result sets out.
pub const SQL: &str = "/v1/api/sql";

/// Read messages, alone or as a member of a group.
pub const TOPICS_CONSUME: &str = "/v1/api/topics/consume";
/// Say that messages are done.
pub const TOPICS_ACK: &str = "/v1/api/topics/ack";
/// Give leased messages back.
pub const TOPICS_NACK: &str = "/v1/api/topics/nack";
/// Keep leased messages longer.
pub const TOPICS_EXTEND: &str = "/v1/api/topics/extend";
/// Read messages without a group, with the request in the query.
pub const TOPIC_MESSAGES: &str = "/v1/api/topics/{topic}/messages";
/// Messages as server-sent events.
pub const TOPIC_STREAM: &str = "/v1/api/topics/{topic}/stream";
/// Where partitions end.
pub const TOPICS_LATEST_OFFSETS: &str = "/v1/api/topics/latest-offsets";

/// User and password in, tokens out.
pub const AUTH_LOGIN: &str = "/v1/api/auth/login";
/// New tokens for a refresh token, which is sent as the bearer.
pub const AUTH_REFRESH: &str = "/v1/api/auth/refresh";
/// Ends a session on the client's side.
pub const AUTH_LOGOUT: &str = "/v1/api/auth/logout";
/// Who the token speaks for.
pub const AUTH_ME: &str = "/v1/api/auth/me";
/// Whether the server waits for its first set-up.
pub const AUTH_STATUS: &str = "/v1/api/auth/status";
/// First set-up of a server that was started without a password for `root`.
pub const AUTH_SETUP: &str = "/v1/api/auth/setup";

/// The process is up.
pub const HEALTH: &str = "/health";
/// The node can serve.
pub const READY: &str = "/ready";
/// Prometheus text.
pub const METRICS: &str = "/metrics";
/// The OpenAPI document.
pub const OPENAPI: &str = "/openapi.json";

/// Members, leader and term.
pub const CLUSTER: &str = "/v1/api/cluster";
/// The same in the shape that load balancers and existing tools read.
pub const CLUSTER_HEALTH: &str = "/v1/api/cluster/health";
/// Adds a member.
pub const CLUSTER_MEMBERS: &str = "/v1/api/cluster/members";
/// One member.
pub const CLUSTER_MEMBER: &str = "/v1/api/cluster/members/{id}";
/// Makes a learner a voter.
pub const CLUSTER_PROMOTE: &str = "/v1/api/cluster/members/{id}/promote";
/// Hands leadership over.
pub const CLUSTER_LEADER: &str = "/v1/api/cluster/leader";
/// Makes a node leave its work to the others.
pub const CLUSTER_DRAIN: &str = "/v1/api/cluster/drain";
/// Takes a snapshot now.
pub const CLUSTER_SNAPSHOT: &str = "/v1/api/cluster/snapshot";
/// Hash chains over what was applied.
pub const CLUSTER_DIGEST: &str = "/v1/api/cluster/digest";

/// The path of one member.
pub fn cluster_member(node_id: u64) -> String {
    CLUSTER_MEMBER.replace("{id}", &node_id.to_string())
}

/// The path that promotes one member.
pub fn cluster_promote(node_id: u64) -> String {
    CLUSTER_PROMOTE.replace("{id}", &node_id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_members_paths_carry_its_number() {
        assert_eq!(cluster_member(7), "/v1/api/cluster/members/7");
        assert_eq!(cluster_promote(7), "/v1/api/cluster/members/7/promote");
    }
}
