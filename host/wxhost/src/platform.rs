//! `wxhost platform`: third-party platforms (第三方平台), their invitations and the accounts that they serve.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::{
    client::{Client, Connection, value_or_file},
    table::{print, print_json, print_list, print_one},
};

#[derive(Debug, Subcommand)]
pub(crate) enum PlatformVerb {
    /// Adds a platform, with what its page in WeChat's console says; shows the URLs to be set there.
    Add(AddArgs),
    /// Shows a platform, and when its newest ticket came.
    Show {
        /// Its component appid.
        platform: String,
    },
    /// Lists all platforms.
    List,
    /// Changes a platform's settings.
    Set(SetArgs),
    /// Gives a platform new keys. The old EncodingAESKey still opens what comes until the next change.
    RotateKey {
        /// Its component appid.
        platform: String,
        /// The new EncodingAESKey (消息加解密Key), or @FILE.
        #[arg(long, value_name = "KEY")]
        aes_key: Option<String>,
        /// The new token (消息校验Token), or @FILE.
        #[arg(long)]
        token: Option<String>,
    },
    /// Says that what the platform's `attention` names is mended.
    ClearAttention {
        /// Its component appid.
        platform: String,
    },
    /// Asks WeChat to push tickets again, if it has stopped; tells also whether the secret is right.
    StartTickets {
        /// Its component appid.
        platform: String,
    },
    /// Begins the day of a platform's own calls anew: ten times a month.
    ClearQuota {
        /// Its component appid.
        platform: String,
    },
    /// Shows the newest of what WeChat told a platform; tickets aside.
    Events {
        /// Its component appid.
        platform: String,
    },
    /// Makes an invitation: a link by which a customer lets the platform serve one account.
    Invite(InviteArgs),
    /// Lists invitations.
    Invitations {
        /// The platform's component appid.
        platform: String,
        /// Of this tenant only.
        #[arg(long)]
        tenant: Option<String>,
        /// After this id.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Takes an invitation back.
    Revoke {
        /// The platform's component appid.
        platform: String,
        /// The invitation's id.
        id: String,
    },
    /// Lists the accounts that have let a platform serve them.
    Authorizers {
        /// The platform's component appid.
        platform: String,
        /// `standing`, `withdrawn` or `unclaimed`.
        #[arg(long)]
        state: Option<String>,
        /// Of this tenant only.
        #[arg(long)]
        tenant: Option<String>,
        /// After this app id.
        #[arg(long, value_name = "APPID")]
        after: Option<String>,
    },
    /// Gives an account to a tenant that has come without an invitation, or that is to change from its own
    /// AppSecret to the platform.
    Claim {
        /// The platform's component appid.
        platform: String,
        /// The account.
        app_id: String,
        /// The tenant.
        #[arg(long)]
        tenant: String,
    },
    /// Imports the accounts of a platform that was run by other software.
    Import(ImportArgs),
}

#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// The component appid.
    platform: String,
    /// Its name; customers see it.
    #[arg(long, default_value = "")]
    name: String,
    /// Where its start-page domain (授权发起页域名) leads: to this host, such as <https://wx.example>.
    #[arg(long, value_name = "URL")]
    public_url: String,
    /// Its AppSecret, or @FILE.
    #[arg(long)]
    secret: String,
    /// 消息校验Token, or @FILE.
    #[arg(long)]
    token: String,
    /// 消息加解密Key, or @FILE.
    #[arg(long, value_name = "KEY")]
    aes_key: String,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// The component appid.
    platform: String,
    /// Its name.
    #[arg(long)]
    name: Option<String>,
    /// Where its start-page domain leads.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// A new AppSecret, or @FILE.
    #[arg(long)]
    secret: Option<String>,
    /// `active` or `disabled`: all its accounts rest then.
    #[arg(long)]
    status: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct InviteArgs {
    /// The platform's component appid.
    platform: String,
    /// Whose the account becomes.
    #[arg(long)]
    tenant: String,
    /// Who invites, as the customer sees it.
    #[arg(long, default_value = "")]
    name: String,
    /// The one account that is meant; without it, any that the visitor administers.
    #[arg(long, value_name = "APPID")]
    account: Option<String>,
    /// The account whose settings, plugin and quotas the new one gets; the tenant's default without it.
    #[arg(long, value_name = "APPID")]
    like: Option<String>,
    /// How long it is good for; a week without it.
    #[arg(long, value_name = "SECONDS")]
    expires_in_seconds: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The platform's component appid.
    platform: String,
    /// Whose the accounts become; without it they wait to be claimed.
    #[arg(long)]
    tenant: Option<String>,
    /// A table with the columns app_id, refresh_token and, if need be, tenant_id. Without it, WeChat's list is
    /// read.
    #[arg(long, value_name = "FILE", conflicts_with = "show")]
    csv: Option<String>,
    /// Shows how far the last import has come; starts nothing.
    #[arg(long)]
    show: bool,
}

pub(crate) async fn run(verb: PlatformVerb, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let answer = match verb {
        PlatformVerb::List
        | PlatformVerb::Events { .. }
        | PlatformVerb::Invitations { .. }
        | PlatformVerb::Authorizers { .. } => return list(verb, &client, connection).await,
        PlatformVerb::Add(args) => add(&args, &client).await?,
        PlatformVerb::Show { platform } => client.get(&["platforms", &platform], &[]).await?,
        PlatformVerb::Set(args) => set(&args, &client).await?,
        PlatformVerb::RotateKey {
            platform,
            aes_key,
            token,
        } => {
            let body = json!({
                "encoding_aes_key": aes_key.as_deref().map(value_or_file).transpose()?,
                "token": token.as_deref().map(value_or_file).transpose()?,
            });
            let path = ["platforms", &platform, "rotate-key"];
            client.post(&path, &body).await?
        }
        PlatformVerb::ClearAttention { platform } => {
            client
                .delete(&["platforms", &platform, "attention"])
                .await?
        }
        PlatformVerb::StartTickets { platform } => {
            let path = ["platforms", &platform, "start-tickets"];
            client.post_with(&path, &[]).await?
        }
        PlatformVerb::ClearQuota { platform } => {
            let path = ["platforms", &platform, "clear-quota"];
            client.post_with(&path, &[]).await?
        }
        PlatformVerb::Invite(args) => invite(&args, &client).await?,
        PlatformVerb::Revoke { platform, id } => {
            client
                .delete(&["platforms", &platform, "invitations", &id])
                .await?
        }
        PlatformVerb::Claim {
            platform,
            app_id,
            tenant,
        } => {
            let path = ["platforms", &platform, "authorizers", &app_id, "claim"];
            client.post(&path, &json!({ "tenant_id": tenant })).await?
        }
        PlatformVerb::Import(args) => import(&args, &client).await?,
    };
    if connection.json {
        print_json(&answer)
    } else if answer.is_null() {
        print("done\n")
    } else {
        print_one(&answer)
    }
}

async fn add(args: &AddArgs, client: &Client) -> Result<Value> {
    let body = json!({
        "app_id": args.platform,
        "name": args.name,
        "public_url": args.public_url,
        "secret": value_or_file(&args.secret)?,
        "token": value_or_file(&args.token)?,
        "encoding_aes_key": value_or_file(&args.aes_key)?,
    });
    client.post(&["platforms"], &body).await
}

async fn set(args: &SetArgs, client: &Client) -> Result<Value> {
    let mut fields = Map::new();
    for (name, given) in [
        ("name", &args.name),
        ("public_url", &args.public_url),
        ("status", &args.status),
    ] {
        if let Some(given) = given {
            fields.insert(name.to_owned(), given.as_str().into());
        }
    }
    if let Some(secret) = &args.secret {
        fields.insert("secret".to_owned(), value_or_file(secret)?.into());
    }
    client.patch(&["platforms", &args.platform], &fields).await
}

async fn invite(args: &InviteArgs, client: &Client) -> Result<Value> {
    let body = json!({
        "tenant_id": args.tenant,
        "name": args.name,
        "app_id": args.account,
        "like": args.like,
        "expires_in_seconds": args.expires_in_seconds,
    });
    let path = ["platforms", &args.platform, "invitations"];
    client.post(&path, &body).await
}

async fn import(args: &ImportArgs, client: &Client) -> Result<Value> {
    let path = ["platforms", &args.platform, "import"];
    if args.show {
        return client.get(&path, &[]).await;
    }
    let csv = match &args.csv {
        None => None,
        Some(file) => {
            let text = std::fs::read_to_string(file);
            Some(text.with_context(|| format!("cannot read {file}"))?)
        }
    };
    let body = json!({ "tenant_id": args.tenant, "csv": csv });
    client.post(&path, &body).await
}

async fn list(verb: PlatformVerb, client: &Client, connection: &Connection) -> Result<()> {
    let (answer, rows, columns): (Value, &str, &[&str]) = match &verb {
        PlatformVerb::Events { platform } => (
            client.get(&["platforms", platform, "events"], &[]).await?,
            "events",
            &["received_at", "kind", "app_id", "state", "error"],
        ),
        PlatformVerb::Invitations {
            platform,
            tenant,
            after,
        } => {
            let query = [("tenant", tenant.as_deref()), ("after", after.as_deref())];
            let path = ["platforms", platform, "invitations"];
            (
                client.get(&path, &query).await?,
                "invitations",
                &["id", "tenant_id", "name", "state", "app_id", "expires_at"],
            )
        }
        PlatformVerb::Authorizers {
            platform,
            state,
            tenant,
            after,
        } => {
            let query = [
                ("state", state.as_deref()),
                ("tenant", tenant.as_deref()),
                ("after", after.as_deref()),
            ];
            let path = ["platforms", platform, "authorizers"];
            (
                client.get(&path, &query).await?,
                "authorizers",
                &["app_id", "state", "tenant_id", "name", "kind", "error"],
            )
        }
        _ => (
            client.get(&["platforms"], &[]).await?,
            "platforms",
            &[
                "app_id",
                "name",
                "status",
                "public_url",
                "ticket_received_at",
            ],
        ),
    };
    if connection.json {
        return print_json(&answer);
    }
    print_list(&answer[rows], columns)?;
    match answer["next"].as_str() {
        Some(next) => print(&format!("more: --after {next}\n")),
        None => Ok(()),
    }
}
