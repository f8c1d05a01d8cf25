//! `wxhost account`: official accounts (公众号).

use anyhow::{Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::{
    client::{Connection, value_or_file},
    table::{print_json, print_list, print_one},
};

#[derive(Debug, Subcommand)]
pub(crate) enum AccountVerb {
    /// Adds an account, with what its page in WeChat's console says (基本配置).
    Add(AddArgs),
    /// Shows an account.
    Show {
        /// Its AppId.
        app_id: String,
    },
    /// Lists accounts.
    List {
        /// Of this tenant only.
        #[arg(long)]
        tenant: Option<String>,
        /// After this app id.
        #[arg(long, value_name = "APPID")]
        after: Option<String>,
    },
    /// Changes an account's settings.
    Set(SetArgs),
    /// Turns an account's callbacks away until it is enabled again.
    Disable {
        /// Its AppId.
        app_id: String,
    },
    /// Serves an account again.
    Enable {
        /// Its AppId.
        app_id: String,
    },
    /// Gives an account new keys. The old EncodingAESKey still opens callbacks until the next change.
    RotateKey {
        /// Its AppId.
        app_id: String,
        /// The new EncodingAESKey, or @FILE.
        #[arg(long, value_name = "KEY")]
        aes_key: Option<String>,
        /// The new token, or @FILE.
        #[arg(long)]
        token: Option<String>,
    },
    /// Makes WeChat give out a new access token now, after a leak: the old one ends at once.
    RefreshToken {
        /// Its AppId.
        app_id: String,
    },
    /// Says that the owner has mended what the account's `attention` names.
    ClearAttention {
        /// Its AppId.
        app_id: String,
    },
}

/// How callbacks travel (消息加解密方式).
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    /// 明文模式
    Plain,
    /// 兼容模式
    Compatible,
    /// 安全模式
    Safe,
}

impl ModeArg {
    fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Compatible => "compatible",
            Self::Safe => "safe",
        }
    }
}

/// How access tokens are got.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum TokenLineArg {
    /// cgi-bin/stable_token: whoever asks gets the same token.
    Stable,
    /// cgi-bin/token: each call ends the token before.
    Classic,
}

impl TokenLineArg {
    fn word(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Classic => "classic",
        }
    }
}

/// How the account calls WeChat.
#[derive(Args)]
struct ApiArgs {
    /// AppSecret (开发者密码), or @FILE; needed to call WeChat.
    #[arg(long)]
    secret: Option<String>,
    /// How access tokens are got.
    #[arg(long)]
    token_line: Option<TokenLineArg>,
    /// A path of WeChat's API, such as /cgi-bin/menu/, that its plugin may call and all below it. Can
    /// be given again; with --grant-host it replaces all grants.
    #[arg(long, value_name = "PREFIX")]
    grant_api: Vec<String>,
    /// A host that its plugin may call.
    #[arg(long, value_name = "HOST")]
    grant_host: Vec<String>,
    /// An origin whose pages may have JS-SDK signatures, such as `https://shop.example`. Can be given
    /// again; replaces those before.
    #[arg(long, value_name = "ORIGIN")]
    jssdk_origin: Vec<String>,
}

impl std::fmt::Debug for ApiArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiArgs").finish_non_exhaustive()
    }
}

impl ApiArgs {
    /// What was given, as fields of the API.
    fn fields(&self) -> Result<Map<String, Value>> {
        let mut fields = Map::new();
        if let Some(secret) = secret(self.secret.as_deref())? {
            fields.insert("secret".into(), secret.into());
        }
        if let Some(line) = self.token_line {
            fields.insert("token_line".into(), line.word().into());
        }
        if !(self.grant_api.is_empty() && self.grant_host.is_empty()) {
            let grants = json!({"api": self.grant_api, "egress": self.grant_host});
            fields.insert("grants".into(), grants);
        }
        if !self.jssdk_origin.is_empty() {
            fields.insert("jssdk_origins".into(), json!(self.jssdk_origin));
        }
        Ok(fields)
    }
}

#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// AppID (开发者ID).
    #[arg(long)]
    app_id: String,
    /// The tenant that it belongs to.
    #[arg(long)]
    tenant: String,
    /// 原始ID, such as `gh_0a1b2c3d4e5f`.
    #[arg(long)]
    original_id: String,
    /// 消息加解密方式.
    #[arg(long)]
    mode: ModeArg,
    /// 令牌(Token), or @FILE.
    #[arg(long)]
    token: String,
    /// EncodingAESKey (消息加解密密钥), or @FILE; needed for compatible and safe.
    #[arg(long, value_name = "KEY")]
    aes_key: Option<String>,
    /// Its name for people.
    #[arg(long, default_value = "")]
    name: String,
    /// How far a callback's timestamp may be off.
    #[arg(long, value_name = "SECONDS")]
    window_seconds: Option<u32>,
    /// What the user gets when the plugin fails.
    #[arg(long, value_name = "TEXT")]
    fallback_text: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Its AppId.
    app_id: String,
    /// Its name for people.
    #[arg(long)]
    name: Option<String>,
    /// 消息加解密方式.
    #[arg(long)]
    mode: Option<ModeArg>,
    /// How far a callback's timestamp may be off.
    #[arg(long, value_name = "SECONDS")]
    window_seconds: Option<u32>,
    /// What the user gets when the plugin fails.
    #[arg(long, value_name = "TEXT", conflicts_with = "no_fallback_text")]
    fallback_text: Option<String>,
    /// The user gets nothing when the plugin fails.
    #[arg(long)]
    no_fallback_text: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub(crate) async fn run(verb: AccountVerb, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let account = match verb {
        AccountVerb::Add(args) => client.post(&["accounts"], &new_account(&args)?).await?,
        AccountVerb::Show { app_id } => client.get(&["accounts", &app_id], &[]).await?,
        AccountVerb::List { tenant, after } => {
            let query = [("tenant", tenant.as_deref()), ("after", after.as_deref())];
            let answer = client.get(&["accounts"], &query).await?;
            return list(&answer, connection);
        }
        AccountVerb::Set(args) => {
            let body = change(&args)?;
            ensure!(
                !body.is_empty(),
                "nothing to change: see wxhost account set --help"
            );
            client.patch(&["accounts", &args.app_id], &body).await?
        }
        AccountVerb::Disable { app_id } => {
            let body = json!({"status": "disabled"});
            client.patch(&["accounts", &app_id], &body).await?
        }
        AccountVerb::Enable { app_id } => {
            let body = json!({"status": "active"});
            client.patch(&["accounts", &app_id], &body).await?
        }
        AccountVerb::RotateKey {
            app_id,
            aes_key,
            token,
        } => {
            let body = json!({
                "encoding_aes_key": secret(aes_key.as_deref())?,
                "token": secret(token.as_deref())?,
            });
            let path = ["accounts", &app_id, "rotate-key"];
            client.post(&path, &body).await?
        }
        AccountVerb::RefreshToken { app_id } => {
            let path = ["accounts", &app_id, "access-token", "refresh"];
            client.post(&path, &json!({})).await?
        }
        AccountVerb::ClearAttention { app_id } => {
            client.delete(&["accounts", &app_id, "attention"]).await?
        }
    };
    if connection.json {
        print_json(&account)
    } else {
        print_one(&account)
    }
}

fn new_account(args: &AddArgs) -> Result<Value> {
    let mut body = json!({
        "app_id": args.app_id,
        "tenant_id": args.tenant,
        "original_id": args.original_id,
        "mode": args.mode.word(),
        "token": value_or_file(&args.token)?,
        "encoding_aes_key": secret(args.aes_key.as_deref())?,
        "name": args.name,
        "window_seconds": args.window_seconds,
        "fallback_text": args.fallback_text,
    });
    if let Value::Object(body) = &mut body {
        body.extend(args.api.fields()?);
    }
    Ok(body)
}

fn change(args: &SetArgs) -> Result<Map<String, Value>> {
    let mut body = args.api.fields()?;
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("name", args.name.as_deref().map(Value::from));
    set("mode", args.mode.map(|mode| mode.word().into()));
    set("window_seconds", args.window_seconds.map(Value::from));
    set(
        "fallback_text",
        args.fallback_text.as_deref().map(Value::from),
    );
    set(
        "fallback_text",
        args.no_fallback_text.then_some(Value::Null),
    );
    Ok(body)
}

fn list(answer: &Value, connection: &Connection) -> Result<()> {
    if connection.json {
        return print_json(answer);
    }
    let columns = [
        "app_id",
        "tenant_id",
        "name",
        "mode",
        "status",
        "active_version",
    ];
    print_list(&answer["accounts"], &columns)?;
    match answer["next"].as_str() {
        Some(next) => crate::table::print(&format!("more: --after {next}\n")),
        None => Ok(()),
    }
}

fn secret(given: Option<&str>) -> Result<Option<String>> {
    given.map(value_or_file).transpose()
}
