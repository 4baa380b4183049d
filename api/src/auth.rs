//! Bodies of the routes under `/v1/api/auth`.

use serde::{Deserialize, Serialize};

/// `POST /v1/api/auth/login`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRequest {
    /// The user's id.
    pub user: String,
    /// The user's password.
    pub password: String,
}

// Written by hand so that no log line can hold a password.
impl std::fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginRequest")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The answer to a login and to `POST /v1/api/auth/refresh`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginResponse {
    /// Who it is.
    pub user: UserInfo,
    /// Whether this account may use an administration page.
    pub admin_ui_access: bool,
    /// When the access token ends, in RFC 3339.
    pub expires_at: String,
    /// To be sent as `Authorization: Bearer`.
    pub access_token: String,
    /// To be sent as the bearer of a refresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// When the refresh token ends, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_expires_at: Option<String>,
}

// Written by hand so that no log line can hold a token.
impl std::fmt::Debug for LoginResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginResponse")
            .field("user", &self.user)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// One account, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// The user's id.
    pub id: String,
    /// `user`, `service`, `dba` or `system`.
    pub role: String,
    /// Null if none was given.
    pub email: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
}

/// `GET /v1/api/auth/me`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeResponse {
    /// Who the token speaks for.
    pub user: UserInfo,
}

/// `POST /v1/api/auth/logout`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogoutResponse {
    /// A sentence for a person.
    pub message: String,
}

/// `GET /v1/api/auth/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthStatusResponse {
    /// `root` has no password yet: `POST /v1/api/auth/setup` is open.
    pub needs_setup: bool,
    /// A sentence for a person.
    pub message: String,
}

/// `POST /v1/api/auth/setup`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupRequest {
    /// The dba user to create.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The password `root` gets.
    pub root_password: String,
    /// The dba user's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

// Written by hand so that no log line can hold a password.
impl std::fmt::Debug for SetupRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetupRequest")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The answer to a set-up; logging in is a separate step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupResponse {
    /// The dba user that was created.
    pub user: UserInfo,
    /// A sentence for a person.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> UserInfo {
        UserInfo {
            id: "alice".into(),
            role: "dba".into(),
            email: None,
            created_at: "2026-04-18T12:00:00Z".into(),
            updated_at: "2026-04-18T12:00:00Z".into(),
        }
    }

    const USER: &str = concat!(
        r#"{"id":"alice","role":"dba","email":null,"created_at":"2026-04-18T12:00:00Z","#,
        r#""updated_at":"2026-04-18T12:00:00Z"}"#
    );

    #[test]
    fn login() {
        let text = r#"{"user":"alice","password":"p"}"#;
        let request: LoginRequest = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), text);

        let response = LoginResponse {
            user: user(),
            admin_ui_access: true,
            expires_at: "e".into(),
            access_token: "a".into(),
            refresh_token: Some("r".into()),
            refresh_expires_at: Some("x".into()),
        };
        let text = format!(
            concat!(
                r#"{{"user":{user},"admin_ui_access":true,"expires_at":"e","access_token":"a","#,
                r#""refresh_token":"r","refresh_expires_at":"x"}}"#
            ),
            user = USER
        );
        assert_eq!(serde_json::to_string(&response).unwrap(), text);
    }

    #[test]
    fn me_status_and_setup() {
        let me = serde_json::to_string(&MeResponse { user: user() }).unwrap();
        assert_eq!(me, format!(r#"{{"user":{USER}}}"#));

        let status = AuthStatusResponse {
            needs_setup: false,
            message: "ready".into(),
        };
        let text = r#"{"needs_setup":false,"message":"ready"}"#;
        assert_eq!(serde_json::to_string(&status).unwrap(), text);

        let text = r#"{"user":"alice","password":"p","root_password":"r","email":"a@b"}"#;
        let request: SetupRequest = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), text);

        let response = SetupResponse {
            user: user(),
            message: "done".into(),
        };
        let text = format!(r#"{{"user":{USER},"message":"done"}}"#);
        assert_eq!(serde_json::to_string(&response).unwrap(), text);
    }

    #[test]
    fn secrets_stay_out_of_debug_output() {
        let request = LoginRequest {
            user: "alice".into(),
            password: "hush".into(),
        };
        let setup = SetupRequest {
            user: "alice".into(),
            password: "hush".into(),
            root_password: "hush".into(),
            email: None,
        };
        let login = LoginResponse {
            user: user(),
            admin_ui_access: false,
            expires_at: "e".into(),
            access_token: "hush".into(),
            refresh_token: Some("hush".into()),
            refresh_expires_at: None,
        };
        for text in [
            format!("{request:?}"),
            format!("{setup:?}"),
            format!("{login:?}"),
        ] {
            assert!(!text.contains("hush"), "{text}");
            assert!(text.contains("alice"), "{text}");
        }
    }
}
