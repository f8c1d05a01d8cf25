//! `wxhost sim`: a pretend WeChat by hand: one user of it, or the API side of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use wxhost_simulator::api::{ApiServer, AppSettings, Settings};
use wxhost_simulator::{
    Callback, Field, Forgery, Outcome, PushSettings, SimulatedAccount, SystemEnvironment,
    UserAction, WechatPlatform,
};
use wxhost_wechat::body::Format;
use wxhost_wechat::envelope::Mode;
use wxhost_wechat::id::{AppId, OpenId, OriginalId};
use wxhost_wechat::secret::{AppSecret, CallbackToken, EncodingAesKey};

use crate::introduction::Introduction;
use crate::serve::stop_signal;
use crate::transcript;
use crate::{sim_merchant, sim_platform};

/// Plays WeChat: sends callbacks to a running host, or answers its API calls.
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    #[command(subcommand)]
    verb: SimVerb,
}

#[derive(Debug, Subcommand)]
enum SimVerb {
    /// Lets a user do something, delivers it as WeChat would and prints what the user sees.
    Send(SendArgs),
    /// Makes the URL check that WeChat makes when the settings are saved.
    Verify(AccountArgs),
    /// Answers API calls as api.weixin.qq.com does, until it is asked to stop.
    Serve(ServeArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Where to listen; port 0 takes any that is free. Whoever reaches it can control it.
    #[arg(long, default_value = "127.0.0.1:9600")]
    listen: SocketAddr,
    /// An account's AppID and AppSecret; may be given several times. Without any, one is invented.
    #[arg(long = "app", value_name = "APPID:SECRET", value_parser = app)]
    apps: Vec<AppArg>,
    /// Seconds that tokens live.
    #[arg(long, default_value_t = 7200)]
    token_lifetime_seconds: u64,
    /// Invents a third-party platform (第三方平台), too, whose host is at this address, and pushes it tickets.
    #[arg(long, value_name = "URL")]
    platform_at: Option<String>,
    /// Where users who log in are led back to: the host of this address, with its port, is every account's web
    /// domain (网页授权域名).
    #[arg(long, value_name = "URL")]
    login_at: Option<String>,
    /// Invents a merchant of WeChat Pay (微信支付商户), too, for the accounts, and puts its keys into this directory.
    #[arg(long, value_name = "DIRECTORY")]
    merchant_in: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct AppArg {
    app_id: AppId,
    secret: AppSecret,
}

/// An account, as WeChat's settings page shows it.
#[derive(Debug, Args)]
struct AccountArgs {
    /// URL that WeChat calls, such as <http://127.0.0.1:8080/callback/wx…>.
    #[arg(long)]
    url: String,
    /// How callbacks travel: plain, compatible or safe.
    #[arg(long, value_parser = mode, default_value = "plain")]
    mode: Mode,
    /// Token.
    #[arg(long)]
    token: String,
    /// EncodingAESKey; not needed in plain mode.
    #[arg(long, required_if_eq_any = [("mode", "compatible"), ("mode", "safe")])]
    aes_key: Option<String>,
    /// AppID.
    #[arg(long)]
    app_id: String,
    /// Original id (原始 ID).
    #[arg(long)]
    original_id: String,
    /// Bodies in JSON instead of XML.
    #[arg(long)]
    json_bodies: bool,
    /// The component appid of the third-party platform whose callback URL, token and key these are.
    #[arg(long, value_name = "APPID")]
    component: Option<String>,
}

#[derive(Debug, Args)]
struct SendArgs {
    #[command(flatten)]
    account: AccountArgs,
    /// Who does it.
    #[arg(long, default_value = "oDemoUser00000000000000000a")]
    open_id: String,
    /// The API of `wxhost sim serve` that is to know the person, so that messages to them are taken
    /// there; `http://127.0.0.1:9600` is looked for without it.
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// Milliseconds that each delivery may take.
    #[arg(long, default_value_t = 5000)]
    deadline_ms: u64,
    /// Deliveries in all, when none is answered with 200.
    #[arg(long, default_value_t = 3)]
    deliveries: u32,
    /// Re-sends under the nonce of the first delivery.
    #[arg(long)]
    same_nonce: bool,
    /// The message under this MsgId, as WeChat's debugging tool sends all of them under one.
    #[arg(long)]
    msg_id: Option<u64>,
    /// All deliveries at once, as when each re-send overtakes the answer to the one before.
    #[arg(long)]
    overlapping: bool,
    /// Sends a forged callback instead, once, and prints the host's answer: bad-signature,
    /// stale-timestamp, plaintext ….
    #[arg(long, value_parser = forgery, conflicts_with = "overlapping")]
    forge: Option<Forgery>,
    #[command(subcommand)]
    action: UserActionArg,
}

/// What the user does.
#[derive(Debug, Subcommand)]
enum UserActionArg {
    /// Writes a text.
    Text { content: String },
    /// Sends an image.
    Image {
        #[arg(default_value = "media-image")]
        media_id: String,
    },
    /// Sends a voice message.
    Voice {
        #[arg(default_value = "media-voice")]
        media_id: String,
        /// The words that WeChat recognises.
        #[arg(long)]
        recognition: Option<String>,
    },
    /// Sends a video.
    Video {
        #[arg(default_value = "media-video")]
        media_id: String,
    },
    /// Sends a place.
    Location {
        #[arg(allow_negative_numbers = true)]
        latitude: f64,
        #[arg(allow_negative_numbers = true)]
        longitude: f64,
        #[arg(default_value = "")]
        label: String,
    },
    /// Sends a link.
    Link { url: String },
    /// Taps a menu button of type click.
    Click { key: String },
    /// Taps a menu button that opens a page.
    View { url: String },
    /// Follows the account.
    Follow {
        /// The scene value of the QR code that was scanned for it.
        #[arg(long)]
        scene: Option<String>,
    },
    /// Scans a QR code of the account as a follower.
    Scan { scene: String },
    /// Stops following the account.
    Unsubscribe,
    /// Whatever is in a file, byte by byte: bodies that WeChat writes and no format allows.
    Body { file: PathBuf },
    /// Anything else: fields such as MsgType=event Event=CLICK EventKey=K.
    Raw {
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = field)]
        fields: Vec<Field>,
    },
}

/// Runs the verb. The exit code tells whether the host did right by WeChat.
pub(crate) async fn run(args: SimArgs) -> Result<ExitCode> {
    match args.verb {
        SimVerb::Send(send) => send.run().await,
        SimVerb::Verify(account) => {
            let account = account.account()?;
            let wechat = WechatPlatform::new(PushSettings::default(), Arc::new(SystemEnvironment))?;
            let elapsed = wechat
                .verify_url(&account)
                .await
                .context("WeChat would not accept this URL")?;
            transcript::say(&format!("accepted in {} ms", elapsed.as_millis()));
            Ok(ExitCode::SUCCESS)
        }
        SimVerb::Serve(serve) => {
            serve.run().await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

impl ServeArgs {
    async fn run(self) -> Result<()> {
        let mut apps = self.apps;
        if apps.is_empty() {
            apps.push(AppArg {
                app_id: SimulatedAccount::register("", Mode::Plain, &SystemEnvironment).app_id,
                secret: AppSecret::parse(&crate::demo::random_hex(16)?)?,
            });
        }
        let settings = Settings {
            listen: self.listen,
            apps: apps
                .iter()
                .map(|app| AppSettings {
                    token_lifetime_seconds: self.token_lifetime_seconds,
                    oauth_domain: self.login_at.as_deref().map(domain),
                    ..AppSettings::new(app.app_id.clone(), app.secret.expose())
                })
                .collect(),
            ..Settings::default()
        };
        let server = ApiServer::start(settings)
            .await
            .with_context(|| format!("cannot listen on {}", self.listen))?;
        let url = server.url();
        transcript::say(&format!("api.weixin.qq.com, pretended, at {url}"));
        for app in &apps {
            // Secrets of pretended accounts are there to be copied.
            let (app_id, secret) = (&app.app_id, app.secret.expose());
            transcript::say(&format!("  app {app_id}  secret {secret}"));
        }
        let pages = match self.platform_at.as_ref().or(self.login_at.as_ref()) {
            None => String::new(),
            Some(_) => format!(" WXHOST_WECHAT_MP_BASE={url} WXHOST_WECHAT_OPEN_BASE={url}"),
        };
        let till = match &self.merchant_in {
            None => String::new(),
            Some(_) => format!(" WXHOST_WECHAT_PAY_BASE={url}"),
        };
        transcript::say(&format!(
            "  a host uses it with  WXHOST_WECHAT_API_BASE={url}{pages}{till}"
        ));
        transcript::say(&format!(
            "  what it can be told, and asked:  curl {url}/_sim"
        ));
        let platform = match &self.platform_at {
            None => None,
            Some(host_url) => Some(sim_platform::invent(server.control(), host_url)?),
        };
        if let Some(directory) = &self.merchant_in {
            let app_ids: Vec<&str> = apps.iter().map(|app| app.app_id.as_str()).collect();
            sim_merchant::invent(&url, &app_ids, directory).await?;
        }
        let pushing = async {
            match &platform {
                None => std::future::pending().await,
                Some(platform) => sim_platform::push_tickets(server.control(), platform).await,
            }
        };
        tokio::select! {
            stopped = stop_signal() => drop(stopped?),
            () = pushing => {}
        }
        server.stop().await;
        Ok(())
    }
}

/// Host and port of an address.
pub(crate) fn domain(address: &str) -> String {
    let (_, rest) = address.split_once("://").unwrap_or(("", address));
    rest.split('/').next().unwrap_or_default().to_owned()
}

impl SendArgs {
    async fn run(&self) -> Result<ExitCode> {
        let account = self.account.account()?;
        let user = OpenId::parse(&self.open_id).context("--open-id")?;
        let mut action = self.action.action();
        if let Some(msg_id) = self.msg_id {
            action = action.with_msg_id(msg_id);
        }
        let settings = PushSettings {
            deadline: Duration::from_millis(self.deadline_ms),
            deliveries: self.deliveries,
            same_nonce: self.same_nonce,
            ..PushSettings::default()
        };
        let wechat = WechatPlatform::new(settings, Arc::new(SystemEnvironment))?;
        let callback = match &self.action {
            UserActionArg::Body { file } => {
                let body = std::fs::read(file).with_context(|| file.display().to_string())?;
                Callback::verbatim(&account, &user, body)
            }
            _ => wechat.compose(&account, &user, &action),
        };
        if let Some(forgery) = self.forge {
            let answer = wechat.forge(&account, &callback, forgery).await?;
            transcript::forgery(account.app_id.as_str(), &account, &action, forgery, &answer);
            return Ok(exit_code(answer.status == forgery.deserved_status()));
        }
        let introduction = Introduction {
            app_id: account.app_id.as_str(),
            open_id: user.as_str(),
            action: &action,
        };
        introduction.make(self.api.as_deref()).await?;
        let delivery = if self.overlapping {
            wechat.push_overlapping(&account, &callback).await
        } else {
            wechat.push(&account, &callback).await
        };
        transcript::delivery(account.app_id.as_str(), &account, &user, &action, &delivery);
        let is_answered = delivery
            .attempts
            .iter()
            .any(|attempt| matches!(attempt.outcome, Outcome::Replied(_) | Outcome::Silent));
        Ok(exit_code(is_answered))
    }
}

fn exit_code(right: bool) -> ExitCode {
    if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl AccountArgs {
    fn account(&self) -> Result<SimulatedAccount> {
        let stranger = SimulatedAccount::register("", self.mode, &SystemEnvironment);
        let aes_key = match &self.aes_key {
            Some(key) => EncodingAesKey::parse(key).context("--aes-key")?,
            None => stranger.aes_key,
        };
        Ok(SimulatedAccount {
            app_id: AppId::parse(&self.app_id).context("--app-id")?,
            original_id: OriginalId::parse(&self.original_id).context("--original-id")?,
            mode: self.mode,
            format: if self.json_bodies {
                Format::Json
            } else {
                Format::Xml
            },
            token: CallbackToken::parse(&self.token).context("--token")?,
            aes_key,
            callback_url: self.url.clone(),
            component: match &self.component {
                None => None,
                Some(app_id) => Some(AppId::parse(app_id).context("--component")?),
            },
        })
    }
}

impl UserActionArg {
    fn action(&self) -> UserAction {
        match self {
            Self::Text { content } => UserAction::text(content),
            Self::Image { media_id } => UserAction::image(media_id),
            Self::Voice {
                media_id,
                recognition: Some(words),
            } => UserAction::recognised_voice(media_id, words),
            Self::Voice {
                media_id,
                recognition: None,
            } => UserAction::voice(media_id),
            Self::Video { media_id } => UserAction::video(media_id, "media-thumb"),
            Self::Location {
                latitude,
                longitude,
                label,
            } => UserAction::location(*latitude, *longitude, label),
            Self::Link { url } => UserAction::link(url, "", url),
            Self::Click { key } => UserAction::click(key),
            Self::View { url } => UserAction::view(url),
            Self::Follow { scene: None } => UserAction::follow(),
            Self::Follow { scene: Some(scene) } => UserAction::follow_by_qr(scene, "ticket"),
            Self::Scan { scene } => UserAction::scan(scene, "ticket"),
            Self::Unsubscribe => UserAction::unsubscribe(),
            Self::Raw { fields } => UserAction::raw(fields.clone()),
            // Described by its name alone; what is sent is the file.
            Self::Body { file } => {
                UserAction::raw([Field::text("body", file.display().to_string())])
            }
        }
    }
}

fn mode(name: &str) -> Result<Mode, String> {
    [Mode::Plain, Mode::Compatible, Mode::Safe]
        .into_iter()
        .find(|mode| mode.as_str() == name)
        .ok_or_else(|| "not one of plain, compatible, safe".to_owned())
}

fn app(pair: &str) -> Result<AppArg, String> {
    let (app_id, secret) = pair.split_once(':').ok_or("not APPID:SECRET")?;
    Ok(AppArg {
        app_id: AppId::parse(app_id).map_err(|error| error.to_string())?,
        secret: AppSecret::parse(secret).map_err(|error| error.to_string())?,
    })
}

fn forgery(name: &str) -> Result<Forgery, String> {
    Forgery::ALL
        .into_iter()
        .find(|forgery| forgery.name() == name)
        .ok_or_else(|| format!("not one of {}", Forgery::ALL.map(Forgery::name).join(", ")))
}

fn field(assignment: &str) -> Result<Field, String> {
    match assignment.split_once('=') {
        Some((name, value)) => Ok(Field::text(name, value)),
        None => Err("not NAME=VALUE".to_owned()),
    }
}
