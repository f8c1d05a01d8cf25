//! `wxhost account`: official accounts (公众号).

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::{
    client::{Client, Connection, value_or_file},
    quotas::{self, QuotaArgs},
    table::{print_json, print_list, print_one},
};

/// Accounts of a page of probes: WeChat answers within seconds for all of them.
const PROBED_AT_ONCE: &str = "50";

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
        /// Those only that want attention: of their owner, because WeChat refuses a host's address, or any.
        #[arg(long, value_name = "WHY")]
        attention: Option<AttentionArg>,
        /// After this app id.
        #[arg(long, value_name = "APPID")]
        after: Option<String>,
    },
    /// Changes an account's settings.
    Set(SetArgs),
    /// Lets users log in to an account's pages (网页授权), or no more.
    Login(LoginArgs),
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
    /// Asks WeChat from the host at --server, before it takes traffic, which accounts' address lists (IP
    /// 白名单) lack it. Ends no token; fails if a list lacks it.
    Probe {
        /// Of this tenant only.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Says that the owners have put a host's address on their lists: the hosts ask WeChat again at once.
    LiftAddress {
        /// Of this tenant only.
        #[arg(long)]
        tenant: Option<String>,
        /// For this account only.
        #[arg(long, value_name = "APPID")]
        account: Option<String>,
        /// Of this address only.
        #[arg(long, value_name = "IP")]
        address: Option<String>,
    },
    /// Shows or sets how much it may use of what it shares with others.
    Quotas {
        /// Its AppId.
        app_id: String,
        #[command(flatten)]
        args: QuotaArgs,
    },
    /// Begins the day of an account's calls anew (clear_quota): ten times a month.
    ClearQuota {
        /// Its AppId.
        app_id: String,
        /// Of this API only, such as /cgi-bin/message/custom/send; that does not count towards the ten.
        #[arg(long, value_name = "PATH")]
        path: Option<String>,
    },
    /// Shows what WeChat remembers of a call (rid/get), its secrets masked; for seven days.
    Rid {
        /// Its AppId.
        app_id: String,
        /// The rid at the end of WeChat's error text.
        rid: String,
    },
}

/// Why an account wants attention.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AttentionArg {
    /// WeChat gives it no token before its owner has mended something.
    Owner,
    /// WeChat refuses the address of a host.
    Address,
    /// Either.
    Any,
}

impl AttentionArg {
    fn word(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Address => "address",
            Self::Any => "any",
        }
    }
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
    /// Words that stop and resume messages, answered before the plugin, as JSON (or @FILE):
    /// {"stop": ["0", "退订"], "resume": ["1"], "stopped": "…", "resumed": "…"}.
    #[arg(long, value_name = "JSON", conflicts_with = "no_opt_out_words")]
    opt_out_words: Option<String>,
    /// All words are the plugin's.
    #[arg(long)]
    no_opt_out_words: bool,
    /// When pushes rest, but for urgent ones, as JSON (or @FILE):
    /// {"from": "22:00", "to": "08:00", "time_zone": "Asia/Shanghai"}.
    #[arg(long, value_name = "JSON", conflicts_with = "no_quiet_hours")]
    quiet_hours: Option<String>,
    /// Pushes never rest.
    #[arg(long)]
    no_quiet_hours: bool,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Args, Debug)]
pub(crate) struct LoginArgs {
    /// Its AppId.
    app_id: String,
    /// An address that users may be led on to, with all below it, such as `https://shop.example/orders`. Can be
    /// given again; replaces those before.
    #[arg(long, value_name = "URL", required_unless_present = "off")]
    return_url: Vec<String>,
    /// Where the account's web domain (网页授权域名) leads to the hosts; the platform's address if absent.
    #[arg(long, value_name = "URL")]
    site_url: Option<String>,
    /// How long a session lasts; a week if absent.
    #[arg(long, value_name = "SECONDS")]
    session_seconds: Option<u32>,
    /// Nobody logs in any more.
    #[arg(long, conflicts_with_all = ["return_url", "site_url", "session_seconds"])]
    off: bool,
}

impl LoginArgs {
    fn body(&self) -> Value {
        if self.off {
            return json!({"login": null});
        }
        let mut login = json!({"return_urls": self.return_url});
        if let Some(site) = &self.site_url {
            login["site_url"] = json!(site);
        }
        if let Some(seconds) = self.session_seconds {
            login["session_seconds"] = json!(seconds);
        }
        json!({"login": login})
    }
}

pub(crate) async fn run(verb: AccountVerb, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let account = match verb {
        AccountVerb::Add(args) => client.post(&["accounts"], &new_account(&args)?).await?,
        AccountVerb::Show { app_id } => client.get(&["accounts", &app_id], &[]).await?,
        AccountVerb::List {
            tenant,
            attention,
            after,
        } => {
            let query = [
                ("tenant", tenant.as_deref()),
                ("attention", attention.map(AttentionArg::word)),
                ("after", after.as_deref()),
            ];
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
        AccountVerb::Login(args) => {
            client
                .patch(&["accounts", &args.app_id], &args.body())
                .await?
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
        AccountVerb::Quotas { app_id, args } => {
            return quotas::run(args, &["accounts", &app_id, "quotas"], connection).await;
        }
        AccountVerb::Probe { tenant } => return probe(&client, connection, tenant).await,
        AccountVerb::LiftAddress {
            tenant,
            account,
            address,
        } => {
            let query = [
                ("tenant", tenant.as_deref()),
                ("account", account.as_deref()),
                ("address", address.as_deref()),
            ];
            client.delete_with(&["address-refusals"], &query).await?
        }
        AccountVerb::ClearQuota { app_id, path } => {
            let body = json!({"cgi_path": path});
            let path = ["accounts", &app_id, "clear-quota"];
            client.post(&path, &body).await?
        }
        AccountVerb::Rid { app_id, rid } => {
            client
                .get(&["accounts", &app_id, "rids", &rid], &[])
                .await?
        }
    };
    if connection.json {
        print_json(&account)
    } else {
        print_one(&account)
    }
}

/// Probes page by page; prints the accounts for which the host's address is not known to be good.
async fn probe(client: &Client, connection: &Connection, tenant: Option<String>) -> Result<()> {
    let mut after: Option<String> = None;
    let (mut probed, mut lacking, mut shown) = (0, 0, Vec::new());
    loop {
        let query = [
            ("tenant", tenant.as_deref()),
            ("after", after.as_deref()),
            ("limit", Some(PROBED_AT_ONCE)),
        ];
        let page = client.post_with(&["address-probe"], &query).await?;
        for account in page["accounts"].as_array().into_iter().flatten() {
            probed += 1;
            lacking += usize::from(account["result"] == "refused");
            if account["result"] != "allowed" {
                shown.push(account.clone());
            }
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    let shown = Value::Array(shown);
    if connection.json {
        print_json(&shown)?;
    } else {
        let columns = [
            "app_id",
            "tenant_id",
            "result",
            "address",
            "errcode",
            "message",
        ];
        print_list(&shown, &columns)?;
        crate::table::print(&format!("{probed} accounts probed\n"))?;
    }
    ensure!(
        lacking == 0,
        "{lacking} accounts' lists lack this host's address"
    );
    Ok(())
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
    for (name, given, is_off) in [
        ("opt_out_words", &args.opt_out_words, args.no_opt_out_words),
        ("quiet_hours", &args.quiet_hours, args.no_quiet_hours),
    ] {
        let given = given.as_deref().map(value_or_file).transpose()?;
        let given = given.as_deref().map(serde_json::from_str);
        let option = name.replace('_', "-");
        let given = given
            .transpose()
            .with_context(|| format!("--{option} is not JSON"))?;
        set(name, given.or(is_off.then_some(Value::Null)));
    }
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
