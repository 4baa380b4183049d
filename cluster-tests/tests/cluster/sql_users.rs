//! Who sees and may do what.

use cluster_tests::User;
use serde_json::json;

use crate::own::Own;

#[tokio::test]
async fn every_user_has_their_own_rows_in_a_user_table() {
    let own = Own::new().await;
    own.given(&["CREATE USER TABLE {ns}.notes (id INT PRIMARY KEY, note TEXT)"])
        .await;
    let insert = own.sql("INSERT INTO {ns}.notes VALUES (1, CURRENT_USER())");
    for user in [&own.alice, &own.bob] {
        let result = user.ok(&insert).await;
        assert_eq!(
            result["as_user"],
            user.name.as_str(),
            "the same key for each"
        );
    }
    let select = own.sql("SELECT note FROM {ns}.notes");
    for user in [&own.alice, &own.bob] {
        assert_eq!(user.cells(&select).await, json!([[user.name]]));
    }
    own.alice.ok(&own.sql("DELETE FROM {ns}.notes")).await;
    assert_eq!(own.alice.cells(&select).await, json!([]));
    assert_eq!(own.bob.cells(&select).await, json!([[own.bob.name]]));
}

#[tokio::test]
async fn acting_as_another_needs_the_role_for_it() {
    let own = Own::new().await;
    own.given(&[
        "CREATE USER TABLE {ns}.notes (id INT PRIMARY KEY, note TEXT)",
        "CREATE TABLE {ns}.shared (id INT PRIMARY KEY)",
    ])
    .await;
    let dba = own.root.create(&format!("{}_dba", own.ns), "dba").await;
    let select = |user: &str| {
        own.sql(&format!(
            "EXECUTE AS USER '{user}' (SELECT note FROM {{ns}}.notes)"
        ))
    };
    let (alice, agent) = (own.alice.name.as_str(), own.agent.name.as_str());
    let allowed: [(&User, &str); 8] = [
        (&own.root, alice),
        (&own.root, dba.name.as_str()),
        (&dba, alice),
        (&dba, agent),
        (&own.agent, alice),
        (&own.agent, agent),
        (&own.alice, alice),
        // The target need not have an account.
        (&own.agent, "somebody-from-elsewhere"),
    ];
    for (user, target) in allowed {
        let result = user.ok(&select(target)).await;
        assert_eq!(result["as_user"], target, "{} as {target}", user.name);
    }
    let refused: [(&User, &str); 5] = [
        (&own.alice, own.bob.name.as_str()),
        (&own.alice, agent),
        (&own.agent, dba.name.as_str()),
        (&own.agent, "root"),
        (&dba, "root"),
    ];
    for (user, target) in refused {
        user.refused(&select(target), 403, "PERMISSION_DENIED")
            .await;
    }
    let shared = own.sql("EXECUTE AS USER 'x' (SELECT * FROM {ns}.shared)");
    let reply = own.root.sql(&shared).await;
    assert!(
        (400..500).contains(&reply.status),
        "only USER and STREAM tables: {reply:?}"
    );
}

#[tokio::test]
async fn rows_written_for_another_are_theirs() {
    let own = Own::new().await;
    own.given(&[
        "CREATE USER TABLE {ns}.notes (id INT PRIMARY KEY, note TEXT)",
        "CREATE TOPIC {ns}.out",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.notes ON INSERT",
    ])
    .await;
    let alice = &own.alice.name;
    let sql = format!("EXECUTE AS USER '{alice}' (INSERT INTO {{ns}}.notes VALUES (1, 'for you'))");
    own.agent.ok(&own.sql(&sql)).await;
    let select = own.sql("SELECT note FROM {ns}.notes");
    assert_eq!(own.alice.cells(&select).await, json!([["for you"]]));
    assert_eq!(own.agent.cells(&select).await, json!([]));
    let reply = own.read("out").await;
    assert_eq!(reply.messages()[0]["user"], alice.as_str());
    let audit = "SELECT actor_user_id, subject_user_id FROM system.audit_log \
                 WHERE subject_user_id IS NOT NULL";
    let rows = own.root.rows(audit).await;
    let used = json!({"actor_user_id": own.agent.name, "subject_user_id": alice});
    assert!(rows.contains(&used), "every use is audited: {rows:?}");
}

#[tokio::test]
async fn a_use_is_audited_also_if_it_fails_or_is_rolled_back() {
    let own = Own::new().await;
    own.given(&["CREATE USER TABLE {ns}.notes (id INT PRIMARY KEY, note TEXT)"])
        .await;
    let alice = &own.alice.name;
    own.alice
        .ok(&own.sql("INSERT INTO {ns}.notes VALUES (1, 'hers')"))
        .await;
    let lines = async || {
        let audit = format!(
            "SELECT details FROM system.audit_log \
             WHERE subject_user_id = '{alice}' AND action = 'EXECUTE AS USER'"
        );
        own.root.rows(&audit).await.len()
    };
    let select = format!("EXECUTE AS USER '{alice}' (SELECT note FROM {{ns}}.notes)");
    let rolled_back = own.sql(&format!("BEGIN; {select}; ROLLBACK"));
    let reply = own.agent.sql(&rolled_back).await;
    assert_eq!(reply.results()[1]["rows"], json!([["hers"]]), "{reply:?}");
    assert_eq!(lines().await, 1);
    let failing = select.replace("SELECT note", "SELECT CAST(note AS INT)");
    let reply = own.agent.sql(&own.sql(&failing)).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert_eq!(lines().await, 2);
    // What came before the failure was seen, too.
    let failing = own.sql(&format!("BEGIN; {select}; SELECT 1 / 0; COMMIT"));
    let reply = own.agent.sql(&failing).await;
    reply.refused(400, "SQL_EXECUTION_ERROR");
    assert_eq!(reply.body["error"]["details"]["statement"], 2, "{reply:?}");
    assert_eq!(lines().await, 3);
    let insert = format!(
        "BEGIN; EXECUTE AS USER '{alice}' (INSERT INTO {{ns}}.notes VALUES (2, 'x')); ROLLBACK"
    );
    assert_eq!(own.agent.sql(&own.sql(&insert)).await.status, 200);
    assert_eq!(lines().await, 4);
    let rows = own.alice.cells(&own.sql("SELECT id FROM {ns}.notes")).await;
    assert_eq!(rows, json!([[1]]), "only the line is kept");
}

#[tokio::test]
async fn roles_limit_what_may_be_done() {
    let own = Own::new().await;
    own.given(&[
        "CREATE TABLE {ns}.secret (id INT PRIMARY KEY) WITH (ACCESS_LEVEL = 'DBA')",
        "CREATE TABLE {ns}.open (id INT PRIMARY KEY) WITH (ACCESS_LEVEL = 'PUBLIC')",
        "CREATE TOPIC {ns}.out",
    ])
    .await;
    let only_dba = [
        "CREATE NAMESPACE {ns}x",
        "CREATE TOPIC {ns}.mine",
        "DROP TOPIC {ns}.out",
        "CLEAR TOPIC {ns}.out",
        "ALTER TOPIC {ns}.out ADD SOURCE {ns}.open ON INSERT",
        "CREATE USER {ns}_x WITH PASSWORD 'long enough' ROLE 'dba'",
        "ALTER USER {ns}_alice SET ROLE 'dba'",
        "DROP USER {ns}_bob",
        "DROP TABLE {ns}.open",
        "SELECT * FROM {ns}.secret",
    ];
    for sql in only_dba {
        own.alice
            .refused(&own.sql(sql), 403, "PERMISSION_DENIED")
            .await;
    }
    for sql in [
        "DROP TOPIC {ns}.out",
        "SELECT * FROM {ns}.secret",
        "DROP USER {ns}_bob",
    ] {
        own.agent
            .refused(&own.sql(sql), 403, "PERMISSION_DENIED")
            .await;
    }
    for sql in [
        "CONSUME FROM {ns}.out",
        "ACK {ns}.out GROUP 'g' UPTO OFFSET 0",
    ] {
        own.alice
            .refused(&own.sql(sql), 403, "PERMISSION_DENIED")
            .await;
    }
    assert_eq!(
        own.alice.cells(&own.sql("SELECT * FROM {ns}.open")).await,
        json!([])
    );
    let topic = own.name("out");
    let ack = json!({"topic_id": topic, "group_id": "g", "upto_offset": 0});
    own.alice.ack(ack).await.refused(403, "FORBIDDEN");
    for path in ["/v1/api/cluster/members", "/v1/api/cluster/leader"] {
        let body = json!({"node_id": 1, "rpc": "127.0.0.1:1"});
        own.alice.post(path, &body).await.refused(403, "FORBIDDEN");
    }
}

#[tokio::test]
async fn passwords_are_kept_as_hashes_that_few_may_see() {
    let own = Own::new().await;
    let rows = own.alice.sql("SELECT * FROM system.users").await;
    assert!(!rows.body.to_string().contains("$argon2"), "{rows:?}");
    let weak = own.sql("CREATE USER {ns}_weak WITH PASSWORD 'short' ROLE 'user'");
    let reply = own.root.sql(&weak).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    // A new password ends the old one.
    let name = own.bob.name.clone();
    own.root
        .ok(&format!("ALTER USER {name} SET PASSWORD 'another horse 8'"))
        .await;
    let login = |password: &str| {
        let body = json!({"user": name, "password": password});
        let api = own.cluster.api();
        async move { api.post("/v1/api/auth/login", &body, &[]).await }
    };
    login("correct horse 9")
        .await
        .refused(401, "INVALID_CREDENTIALS");
    assert_eq!(login("another horse 8").await.status, 200);
    own.root.ok(&format!("DROP USER {name}")).await;
    login("another horse 8")
        .await
        .refused(401, "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn tokens_from_one_node_work_on_all_and_can_be_refreshed() {
    let own = Own::new().await;
    let api = own.cluster.api();
    let body = json!({"user": own.alice.name, "password": cluster_tests::user::PASSWORD});
    let login = api.post("/v1/api/auth/login", &body, &[]).await;
    assert_eq!(login.status, 200, "{login:?}");
    assert_eq!(login.body["user"]["id"], own.alice.name.as_str());
    assert_eq!(login.body["user"]["role"], "user");
    let refresh = login.body["refresh_token"].as_str().unwrap();
    for url in api.urls() {
        let bearer = format!("Bearer {}", login.body["access_token"].as_str().unwrap());
        let me = api
            .get_from(url, "/v1/api/auth/me", &[("Authorization", &bearer)])
            .await;
        assert_eq!(me.body["user"]["id"], own.alice.name.as_str(), "{me:?}");
        let bearer = format!("Bearer {refresh}");
        let headers = [("Authorization", bearer.as_str())];
        let again = api
            .post_to(url, "/v1/api/auth/refresh", &json!({}), &headers)
            .await;
        assert!(again.body["access_token"].is_string(), "{again:?}");
        let wrong = api
            .post_to(url, "/v1/api/sql", &json!({"sql": "SELECT 1"}), &headers)
            .await;
        assert_eq!(
            wrong.status, 401,
            "a refresh token is no access token: {wrong:?}"
        );
    }
    let status = api
        .get_from(api.next_url(), "/v1/api/auth/status", &[])
        .await;
    assert_eq!(status.body["needs_setup"], false);
    let setup = json!({"user": "x", "password": "long enough", "root_password": "long enough"});
    let setup = api.post("/v1/api/auth/setup", &setup, &[]).await;
    setup.refused(409, "CONFLICT");
}
