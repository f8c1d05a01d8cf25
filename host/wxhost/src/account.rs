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
            let body = change(&args);
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
    };
    if connection.json {
        print_json(&account)
    } else {
        print_one(&account)
    }
}

fn new_account(args: &AddArgs) -> Result<Value> {
    Ok(json!({
        "app_id": args.app_id,
        "tenant_id": args.tenant,
        "original_id": args.original_id,
        "mode": args.mode.word(),
        "token": value_or_file(&args.token)?,
        "encoding_aes_key": secret(args.aes_key.as_deref())?,
        "name": args.name,
        "window_seconds": args.window_seconds,
        "fallback_text": args.fallback_text,
    }))
}

fn change(args: &SetArgs) -> Map<String, Value> {
    let mut body = Map::new();
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
    body
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
