//! Every bound of the system, with its unit, and what happens there.
//!
//! A bound that a request can hit names the error it gets; a bound on work inside says what waits.

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ---- What a request may be -------------------------------------------------------------------

/// Largest JSON body. Beyond: 413 `BODY_TOO_LARGE`.
pub const BODY_MAX_BYTES: usize = 8 * MIB;
/// Largest JSON body of the auth routes, which take one from anybody. Beyond: 413 `BODY_TOO_LARGE`.
pub const AUTH_BODY_MAX_BYTES: usize = 16 * KIB;
/// How long a request's body may take to arrive, within its deadline. Beyond: 504
/// `DEADLINE_EXCEEDED`.
pub const BODY_READ_MAX_MS: u64 = 30_000;
/// Bytes of a refused request's body that are read and dropped, so that its client sees the answer.
/// Beyond: the connection is closed.
pub const BODY_DISCARD_MAX_BYTES: usize = 64 * MIB;
/// How long nothing of it may come. Beyond: the connection is closed.
pub const BODY_DISCARD_IDLE_MS: u64 = 500;
/// How long all of it may take. Beyond: the connection is closed.
pub const BODY_DISCARD_MAX_MS: u64 = 5_000;
/// Largest SQL text of one request. Beyond: 400 `INVALID_SQL`.
pub const SQL_MAX_BYTES: usize = MIB;
/// Most statements in one request. Beyond: 400 `INVALID_SQL`.
pub const STATEMENTS_MAX: usize = 1_000;
/// Deepest nesting of expressions and queries. Beyond: 400 `INVALID_SQL`.
pub const SQL_DEPTH_MAX: usize = 64;
/// Most operators and keywords in one expression, counted along its deepest branch: chains of
/// operators make trees as deep as nesting does. Beyond: 400 `INVALID_SQL`.
pub const SQL_CHAIN_MAX: usize = 1_000;
/// Most joins and set operations (UNION, …) in one statement. Beyond: 400 `INVALID_SQL`.
pub const SQL_SET_OPERATIONS_MAX: usize = 256;
/// Most brackets in each other of those that double the work on a text: derived tables and joins in
/// FROM, COALESCE. Beyond: 400 `INVALID_SQL`.
pub const SQL_TABLE_DEPTH_MAX: usize = 10;
/// Most parameters bound to one statement. Beyond: 400 `INVALID_PARAMETER`.
pub const PARAMS_MAX: usize = 10_000;
/// Longest name of a namespace, table, column, topic, group, user or consumer, and longest id,
/// in UTF-8 bytes. Beyond: 400 `INVALID_INPUT`.
pub const NAME_MAX_BYTES: usize = 255;
/// Longest `Idempotency-Key`. Beyond: 400 `INVALID_INPUT`.
pub const IDEMPOTENCY_KEY_MAX_BYTES: usize = 255;
/// Longest and shortest password. Outside: 400 `INVALID_INPUT`.
pub const PASSWORD_MAX_BYTES: usize = 1024;
/// See [`PASSWORD_MAX_BYTES`].
pub const PASSWORD_MIN_BYTES: usize = 8;
/// Passwords a node hashes or checks at once; each takes a core for tens of milliseconds. Others
/// wait.
pub const PASSWORDS_AT_ONCE: usize = 2;
/// Passwords that may wait for that. Beyond: 429 `RATE_LIMIT_EXCEEDED`.
pub const PASSWORDS_WAITING_MAX: usize = 64;
/// Longest deadline a request may ask for.
pub const DEADLINE_MAX_MS: u64 = 600_000;
/// A request's deadline when it names none.
pub const DEADLINE_DEFAULT_MS: u64 = 30_000;
/// How much longer than its wait a long poll's deadline is, when the request names none.
pub const LONG_POLL_MARGIN_MS: u64 = 10_000;
/// How long a long poll waits when the request does not say, if it may wait that long.
pub const LONG_POLL_DEFAULT_MS: u64 = 5_000;
/// How long a long poll waits at most on a node that is stopping: what waits then is answered, and
/// who asks again is not answered at once for ever.
pub const STOPPING_POLL_MS: u64 = 200;
/// Longest wait of a long poll unless configured higher.
pub const LONG_POLL_MAX_MS: u64 = 5_000;

// ---- What a row, table and transaction may be ------------------------------------------------

/// Largest encoded row. Beyond: 400 `VALUE_TOO_LARGE`.
pub const ROW_MAX_BYTES: usize = MIB;
/// Largest encoded primary or index key. Beyond: 400 `VALUE_TOO_LARGE`.
pub const KEY_MAX_BYTES: usize = 4 * KIB;
/// Largest transaction (one Envelope) as it is replicated. Beyond: 400 `VALUE_TOO_LARGE`.
pub const ENVELOPE_MAX_BYTES: usize = 4 * MIB;
/// Most rows one statement may change. Beyond: 400 `VALUE_TOO_LARGE`.
pub const ROWS_PER_STATEMENT_MAX: usize = 50_000;
/// Bytes of the stored rows that one statement may change. Beyond: 400 `VALUE_TOO_LARGE`.
pub const ROWS_PER_STATEMENT_MAX_BYTES: usize = 64 * MIB;
/// Most columns of a table. Beyond: 400 `INVALID_INPUT`.
pub const COLUMNS_MAX: usize = 512;
/// Most indexes of a table. Beyond: 400 `INVALID_INPUT`.
pub const INDEXES_MAX: usize = 32;
/// Most routes of a table. Beyond: 400 `INVALID_INPUT`.
pub const ROUTES_MAX: usize = 16;
/// Most rows in one answer to SELECT. Beyond: 400 `SQL_EXECUTION_ERROR` that says to add LIMIT.
pub const RESULT_ROWS_MAX: usize = 1_000_000;
/// Largest answer of one request. Beyond: 400 `SQL_EXECUTION_ERROR` that says to add LIMIT.
pub const RESULT_MAX_BYTES: usize = 64 * MIB;
/// Memory that all queries together may use for sorting, joining and grouping. Beyond: 400
/// `SQL_EXECUTION_ERROR`.
pub const QUERY_MEMORY_MAX_BYTES: usize = 512 * MIB;

/// What one call of a function of texts may make, over the rows it is evaluated for together.
/// Beyond: 400 `SQL_EXECUTION_ERROR`.
pub const FUNCTION_RESULT_MAX_BYTES: usize = 64 * MIB;

// ---- Topics and groups -----------------------------------------------------------------------

/// Most partitions of a topic. Beyond: 400 `INVALID_INPUT`.
pub const PARTITIONS_MAX: u32 = 1024;
/// Most messages in one answer to a consume. Beyond: 400 `INVALID_INPUT`.
pub const CONSUME_LIMIT_MAX: u32 = 10_000;
/// Messages in one answer when the request names no limit.
pub const CONSUME_LIMIT_DEFAULT: u32 = 100;
/// Payload bytes after which a consume stops adding messages (it returns at least one).
pub const CONSUME_MAX_BYTES: usize = 8 * MIB;
/// A lease's length unless the request says otherwise.
pub const LEASE_DEFAULT_MS: u64 = 60_000;
/// Longest lease. Beyond: 400 `INVALID_INPUT`.
pub const LEASE_MAX_MS: u64 = 3_600_000;
/// How long a lease whose messages are all acked is remembered, so that an ack whose answer was
/// lost can be repeated. After that a repeat without an `Idempotency-Key` is LEASE_LOST.
pub const LEASE_DONE_KEEP_MS: u64 = 60_000;
/// Leases to be forgotten that one claim forgets: more than it adds, so they never pile up.
pub const LEASE_DONE_SWEEP_MAX: usize = 4;
/// Longest delay of a nack. Beyond: 400 `INVALID_INPUT`.
pub const NACK_DELAY_MAX_MS: u64 = 43_200_000;
/// Most partitions in one request for their ends: all of a topic. Beyond: 400 `INVALID_INPUT`.
pub const LATEST_OFFSETS_MAX: usize = PARTITIONS_MAX as usize;
/// Bytes of the answer, as it is sent, after which SQL's CONSUME stops adding messages (it returns
/// at least one). Payloads are arrays of numbers there, several times their own size.
pub const SQL_CONSUME_MAX_BYTES: usize = 16 * MIB;
/// Streams of messages that one node keeps open. Beyond: 503 `OVERLOADED`.
pub const STREAMS_OPEN_MAX: usize = 1_024;
/// Messages that a stream reads at once.
pub const STREAM_READ_MAX: u32 = 100;
/// Bytes of messages that a stream reads at once (at least one message).
pub const STREAM_READ_MAX_BYTES: usize = MIB;
/// How long a stream that waits for messages lets more be applied before it looks: a busy node
/// wakes it with every write.
pub const STREAM_PAUSE_MS: u64 = 5;
/// How often a stream without messages sends a comment, so that nothing between takes it for dead.
pub const STREAM_KEEP_ALIVE_MS: u64 = 10_000;
/// How often the leader looks for messages that are too old or too many.
pub const RETENTION_INTERVAL_MS: u64 = 1_000;
/// Messages that retention looks at in one round over all topics; the next round goes on where this
/// one stopped.
pub const RETENTION_SCAN_MAX: usize = 50_000;
/// How long retention waits after a jump of the wall clock, for somebody to set it right.
pub const RETENTION_PAUSE_MS: u64 = 600_000;
/// Most offsets named in one ack or nack. Beyond: 400 `INVALID_INPUT`.
pub const ACK_OFFSETS_MAX: usize = 10_000;
/// Most segments of a group's partition that one claim looks at; the rest waits for the next one.
pub const CLAIM_SCAN_MAX: usize = 1_000;
/// Most segments of a group's partition. At the bound a claim grants only what is expired.
pub const GROUP_SEGMENTS_MAX: usize = 100_000;
/// Most messages of a group's partition that were granted and are not done. At the bound a claim
/// grants only what is expired. Two open messages have at most one done segment between them, so
/// this is what keeps [`GROUP_SEGMENTS_MAX`].
pub const GROUP_IN_FLIGHT_MAX: u64 = GROUP_SEGMENTS_MAX as u64 / 2;

// ---- The log and apply -----------------------------------------------------------------------

/// Highest number of a node, which JSON can still tell from the next one. Beyond: the node is not
/// let in.
pub const NODE_ID_MAX: u64 = (1 << 53) - 1;
/// Most Envelopes packed into one log entry.
pub const ENTRY_ENVELOPES_MAX: usize = 512;
/// Bytes after which the batcher closes an entry (one Envelope may exceed it alone).
pub const ENTRY_MAX_BYTES: usize = MIB;
/// Requests a node remembers having applied, to tell who lost the answer. Beyond: it says that it
/// does not know.
pub const RECENT_REQUESTS_MAX: usize = 100_000;
/// Log entries in flight in the batcher.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 2;
/// Envelopes that may wait in the batcher. Beyond: 503 `OVERLOADED`.
pub const BATCHER_QUEUE_MAX: usize = 16_384;
/// Bytes that may wait in the batcher. Beyond: 503 `OVERLOADED`.
pub const BATCHER_QUEUE_MAX_BYTES: usize = 64 * MIB;
/// Entries that may be committed and not yet applied before the batcher says `OVERLOADED`.
pub const APPLY_LAG_MAX_ENTRIES: u64 = 20_000;
/// Entries in one apply run: one storage batch.
pub const APPLY_RUN_MAX_ENTRIES: usize = 1_000;
/// Bytes of entries in one apply run: one storage batch.
pub const APPLY_RUN_MAX_BYTES: usize = 4 * MIB;
/// Bytes read from the log for one replication message.
pub const REPLICATION_READ_MAX_BYTES: usize = MIB;
/// Writes that may wait for the log's writer. Beyond: consensus waits.
pub const LOG_WRITER_QUEUE_MAX: usize = 4_096;
/// Bytes of entries the log's writer puts into one write and one fsync; one write may exceed it.
pub const LOG_WRITE_GROUP_MAX_BYTES: usize = 8 * MIB;
/// Bytes of entries kept in memory at the log's end. Beyond: durable ones are read from the disk.
pub const LOG_TAIL_MAX_BYTES: usize = 16 * MIB;
/// Entries kept there: in memory a small one takes many times its bytes. Beyond: as above.
pub const LOG_TAIL_MAX_ENTRIES: usize = 8_192;
/// How far behind the log its marker may be, in time.
pub const LOG_MARKER_INTERVAL_MS: u64 = 200;
/// Largest gRPC message between nodes: an entry with one full Envelope, framed.
pub const RPC_MESSAGE_MAX_BYTES: usize = 16 * MIB;
/// One chunk of a snapshot stream.
pub const SNAPSHOT_CHUNK_BYTES: usize = MIB;
/// Bytes of a file that is received after which they are put on the disk. More at once would hold
/// up whatever else waits for that disk.
pub const SNAPSHOT_SYNC_BYTES: u64 = 4 * MIB as u64;
/// How fast a snapshot is sent to one node at most, so that log entries and requests get through.
pub const SNAPSHOT_SEND_BYTES_PER_SECOND: u64 = 32 * MIB as u64;
/// How long the transfer of a snapshot may stand still. Beyond: it is broken off and tried again;
/// the files that arrived whole are not sent again.
pub const SNAPSHOT_STALL_MAX_MS: u64 = 30_000;
/// How long a node may take to install a snapshot that has arrived. Beyond: as above.
pub const SNAPSHOT_INSTALL_MAX_MS: u64 = 300_000;
/// Log bytes since the last snapshot after which a new one is taken, unless configured.
pub const SNAPSHOT_LOG_BYTES: u64 = 256 * MIB as u64;
/// Least of that which may be configured. Below: the node does not start.
pub const SNAPSHOT_LOG_BYTES_MIN: u64 = 64 * KIB as u64;
/// Age of the last snapshot after which a new one is taken, if entries came since: what a node that
/// starts has to apply again.
pub const SNAPSHOT_MAX_AGE_MS: u64 = 3_600_000;
/// Log entries kept below a snapshot for followers that are a little behind, unless configured. One
/// that is further behind, or behind [`LOG_KEEP_BYTES`], gets a snapshot; and another one, if by
/// the time it has that one the log begins after it. A node that takes up snapshots more slowly
/// than so much is written never catches up, and holds up nobody else.
pub const LOG_KEEP_ENTRIES: u64 = 10_000;
/// Least of that which may be configured. Below: the node does not start.
pub const LOG_KEEP_ENTRIES_MIN: u64 = 100;
/// Bytes of the log's youngest entries that are kept, of those that a snapshot has, unless
/// configured. What it does not have is kept in any case.
pub const LOG_KEEP_BYTES: u64 = 256 * MIB as u64;
/// Least of that which may be configured. Below: the node does not start.
pub const LOG_KEEP_BYTES_MIN: u64 = 64 * KIB as u64;
/// How exactly the bytes of a part of the log are known.
pub const LOG_BYTES_STEP: u64 = 64 * KIB as u64;

// ---- Replicas that watch each other -----------------------------------------------------------

/// Digests are compared between nodes at entries whose index is a multiple of this.
pub const DIGEST_MARK_ENTRIES: u64 = 256;
/// Digests of that kind a node remembers; of older entries it says that it does not know.
pub const DIGEST_MARKS_MAX: usize = 1_024;
/// How often the leader compares the digests of all members, if there was a new mark.
pub const DIGEST_COMPARE_INTERVAL_MS: u64 = 10_000;
/// How often a leader asks the members how they are, and a node looks at its disk.
pub const WATCH_INTERVAL_MS: u64 = 1_000;
/// How long one write of the leader's log may take, fsync included, before another voter leads: as
/// long as it takes to elect one in place of a leader that is gone.
pub const LOG_STALL_MAX_MS: u64 = 1_500;

// ---- Disk -------------------------------------------------------------------------------------

/// Free bytes of the data directory's file system below which a node counts as full, unless
/// configured: a share of the file system, but at least and at most so much. A leader without a
/// quorum of voters that have room refuses growth: 503 `DISK_FULL`.
pub const DISK_RESERVE_PERCENT: u64 = 5;
/// See [`DISK_RESERVE_PERCENT`].
pub const DISK_RESERVE_MIN_BYTES: u64 = 512 * MIB as u64;
/// See [`DISK_RESERVE_PERCENT`].
pub const DISK_RESERVE_MAX_BYTES: u64 = 10 * 1024 * MIB as u64;
/// Most of a small file system that the reserve takes, whatever its minimum says.
pub const DISK_RESERVE_SMALL_PERCENT: u64 = 20;
/// How much more than its reserve a full node must have free to count as not full again, as a share
/// of the reserve.
pub const DISK_RECOVERY_PERCENT: u64 = 10;

// ---- Storage ----------------------------------------------------------------------------------

/// Memory for the log's writes that are in its WAL and not yet in a table.
pub const LOG_MEMTABLE_BYTES: usize = 64 * MIB;
/// Memory for blocks of the log that were read again.
pub const LOG_BLOCK_CACHE_BYTES: usize = 32 * MIB;
/// Memory for the state's writes that are not flushed. Beyond: RocksDB flushes all of them.
pub const STATE_MEMTABLE_BYTES: usize = 128 * MIB;
/// Memory for blocks, indexes and filters of the state that were read.
pub const STATE_BLOCK_CACHE_BYTES: usize = 128 * MIB;
/// Bytes of a table that is written after which RocksDB begins to put them on the disk. All at its
/// end would hold up the log, whose writes wait for the same disk.
pub const STORAGE_SYNC_BYTES: u64 = MIB as u64;
/// Size at which RocksDB starts a new file of its own text log.
pub const STORAGE_INFO_LOG_BYTES: usize = 16 * MIB;

// ---- Planning, forwarding, serving -----------------------------------------------------------

/// How often the leader plans a statement again after apply rejected it. Then: 409 WRITE_CONFLICT.
pub const REPLAN_MAX: u32 = 64;
/// Requests one node may have forwarded and not yet answered. Beyond: 503 `OVERLOADED`.
pub const FORWARD_IN_FLIGHT_MAX: usize = 8_192;
/// An answer of the leader to another node goes out in parts of this size, each of which fits a
/// message ([`RPC_MESSAGE_MAX_BYTES`]).
pub const FORWARD_PART_BYTES: usize = MIB;
/// Requests one node serves at once over HTTP. Beyond: 503 `OVERLOADED`.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 8_192;
/// Queries that run at once; others wait.
pub const QUERIES_RUNNING_MAX: usize = 32;
/// How often a node looks whether the files of its certificates were replaced; they are used once
/// two looks in a row have found the same.
pub const TLS_FILES_LOOK_INTERVAL_MS: u64 = 5_000;
/// TLS handshakes at once on each listener. Beyond: connections wait to be accepted.
pub const TLS_HANDSHAKES_MAX: usize = 512;
/// How long a TLS handshake may take. Beyond: the connection is closed.
pub const TLS_HANDSHAKE_MAX_MS: u64 = 10_000;
/// Topics that `/metrics` shows one by one. Beyond: `duet_topics_left_out` says how many are not.
pub const METRICS_TOPICS_MAX: usize = 200;
/// Positions of consumer groups (one for each of a group's partitions) that `/metrics` shows one by
/// one. Beyond: `duet_topic_groups_left_out` says how many are not.
pub const METRICS_GROUPS_MAX: usize = 1_000;
/// How long the text of `/metrics` is given to others who ask.
pub const METRICS_KEEP_MS: u64 = 250;
/// Partitions, positions of groups and leases (also those that are only remembered) that are each
/// read at most for `/metrics`. Beyond: they are not counted.
pub const METRICS_SCAN_MAX: usize = 20_000;
/// The listen queue of a socket, in connections.
pub const LISTEN_BACKLOG: u32 = 4_096;
/// Pause of a listener after the system could not accept a connection.
pub const ACCEPT_PAUSE_MS: u64 = 200;
/// Files that the connections of clients leave to the node's own: what storage opens, and the other
/// nodes' connections. At most a quarter of what the process may open. Beyond: new connections of
/// clients wait to be accepted.
pub const FILES_RESERVED: u64 = 256;
/// How long a new HTTP connection may take until its first request is there, headers and all.
/// Beyond: it is closed.
pub const FIRST_REQUEST_MAX_MS: u64 = 15_000;
/// How long an HTTP/1.1 connection may take until its next request is there, headers and all.
/// Beyond: it is closed. More than the 90 s after which many clients drop an idle connection
/// themselves, so that they do not send on one that is being closed.
pub const NEXT_REQUEST_MAX_MS: u64 = 100_000;
/// How often an HTTP/2 connection is asked whether its client is still there.
pub const HTTP2_PING_INTERVAL_MS: u64 = 30_000;
/// How long that answer may take. Beyond: the connection is closed.
pub const HTTP2_PING_MAX_MS: u64 = 20_000;
/// How long an idempotency key is kept, by the log's wall clock.
pub const IDEMPOTENCY_KEEP_MS: u64 = 24 * 3_600_000;
/// Largest answer stored under an idempotency key.
pub const IDEMPOTENCY_ANSWER_MAX_BYTES: usize = 64 * KIB;
/// Expired idempotency keys that one Envelope removes.
pub const IDEMPOTENCY_SWEEP_MAX: usize = 4;
