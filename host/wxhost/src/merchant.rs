//! `wxhost merchant`: merchants of WeChat Pay (微信支付商户), their keys, and which accounts' orders are paid to them.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::{
    client::{Connection, value_or_file},
    table::{print_json, print_list, print_one},
};

#[derive(Debug, Subcommand)]
pub(crate) enum MerchantVerb {
    /// Adds a merchant, with what its console (商户平台, API安全) says.
    Add(AddArgs),
    /// Shows a merchant: its keys by their serial numbers, and its accounts with the URLs it notifies.
    Show {
        /// 商户号.
        merchant: String,
    },
    /// Lists all merchants.
    List,
    /// Changes a merchant.
    Set(SetArgs),
    /// Has an account's orders paid to a merchant, or changes what the account may do there.
    Bind(BindArgs),
    /// Takes an account from a merchant; not while money is under way.
    Unbind {
        /// 商户号.
        merchant: String,
        /// The account.
        app_id: String,
    },
    /// Stages the next APIv3 key, which is tried beside the present one from now on. Then change it in the console.
    StageV3Key {
        /// 商户号.
        merchant: String,
        /// The next APIv3密钥, or @FILE.
        #[arg(long, value_name = "KEY")]
        v3_key: String,
    },
    /// Lets the older APIv3 key go, a day after it was changed in the console.
    SettleV3Key {
        /// 商户号.
        merchant: String,
    },
    /// Adds an API certificate, which signs from now on.
    AddCertificate {
        /// 商户号.
        merchant: String,
        #[command(flatten)]
        certificate: CertificateArgs,
    },
    /// Removes an API certificate that is signed with no more.
    RemoveCertificate {
        /// 商户号.
        merchant: String,
        /// Its serial number.
        serial: String,
    },
    /// Adds something that WeChat Pay signs with: its public key, or a platform certificate.
    AddPlatformKey {
        /// 商户号.
        merchant: String,
        #[command(flatten)]
        key: PlatformKeyArgs,
    },
    /// Removes something that WeChat Pay signs with no more.
    RemovePlatformKey {
        /// 商户号.
        merchant: String,
        /// Its serial number, or the public key's id.
        serial: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct CertificateArgs {
    /// The private key: apiclient_key.pem, as @FILE.
    #[arg(long, value_name = "@FILE")]
    private_key: String,
    /// The certificate: apiclient_cert.pem, as @FILE.
    #[arg(long, value_name = "@FILE")]
    certificate: Option<String>,
    /// Its serial number, where the certificate is not given.
    #[arg(long)]
    serial: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct PlatformKeyArgs {
    /// WeChat Pay's public key (pub_key.pem), or a platform certificate, as @FILE.
    #[arg(long, value_name = "@FILE")]
    pem: String,
    /// The public key's id (微信支付公钥ID); none for a certificate.
    #[arg(long, value_name = "PUB_KEY_ID")]
    id: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct AddArgs {
    /// 商户号.
    merchant: String,
    /// The tenant whose it is.
    #[arg(long)]
    tenant: String,
    /// Its name, for people.
    #[arg(long, default_value = "")]
    name: String,
    /// Where this host is reached from the internet, such as <https://pay.example>: WeChat Pay notifies there.
    #[arg(long, value_name = "URL")]
    public_url: String,
    /// APIv3密钥, or @FILE.
    #[arg(long, value_name = "KEY")]
    v3_key: String,
    #[command(flatten)]
    certificate: CertificateArgs,
    /// WeChat Pay's public key (pub_key.pem), as @FILE, where the merchant has one.
    #[arg(long, value_name = "@FILE", requires = "public_key_id")]
    public_key: Option<String>,
    /// The public key's id (微信支付公钥ID).
    #[arg(long, value_name = "PUB_KEY_ID", requires = "public_key")]
    public_key_id: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// 商户号.
    merchant: String,
    /// Its name.
    #[arg(long)]
    name: Option<String>,
    /// Where this host is reached from the internet.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// `active` or `disabled`: no new orders then; what was paid is still taken.
    #[arg(long)]
    status: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct BindArgs {
    /// 商户号.
    merchant: String,
    /// The account.
    app_id: String,
    /// The largest order, fen.
    #[arg(long, value_name = "FEN")]
    order_fen: Option<i64>,
    /// The sum of a person's orders in a day (Beijing), fen.
    #[arg(long, value_name = "FEN")]
    person_day_fen: Option<i64>,
    /// The sum of all orders in a day, fen.
    #[arg(long, value_name = "FEN")]
    day_fen: Option<i64>,
    /// The account may give money back.
    #[arg(long)]
    refunds: bool,
    /// A refund of more than this waits until somebody approves it, fen.
    #[arg(long, value_name = "FEN", requires = "refunds")]
    approve_refunds_above_fen: Option<i64>,
    /// For whom a partner (服务商) collects: 子商户号.
    #[arg(long, value_name = "MCHID")]
    sub_merchant: Option<String>,
    /// The partner's own app id, where orders go under it.
    #[arg(long, value_name = "APPID")]
    partner_app_id: Option<String>,
}

pub(crate) async fn run(verb: MerchantVerb, connection: &Connection) -> Result<()> {
    let client = connection.client()?;
    let answer = match verb {
        MerchantVerb::Add(args) => client.post(&["merchants"], &added(args)?).await?,
        MerchantVerb::Show { merchant } => client.get(&["merchants", &merchant], &[]).await?,
        MerchantVerb::List => {
            let answer = client.get(&["merchants"], &[]).await?;
            if connection.json {
                return print_json(&answer);
            }
            let columns = ["mch_id", "name", "tenant_id", "status", "public_url"];
            return print_list(&answer["merchants"], &columns);
        }
        MerchantVerb::Set(args) => {
            let change = present([
                ("name", args.name),
                ("public_url", args.public_url),
                ("status", args.status),
            ]);
            client
                .patch(&["merchants", &args.merchant], &change)
                .await?
        }
        MerchantVerb::Bind(args) => {
            let path = ["merchants", &args.merchant, "accounts", &args.app_id];
            client.put(&path, &binding(&args)).await?
        }
        MerchantVerb::Unbind { merchant, app_id } => {
            client
                .delete(&["merchants", &merchant, "accounts", &app_id])
                .await?
        }
        MerchantVerb::StageV3Key { merchant, v3_key } => {
            let body = json!({"v3_key": value_or_file(&v3_key)?});
            client
                .put(&["merchants", &merchant, "v3-key"], &body)
                .await?
        }
        MerchantVerb::SettleV3Key { merchant } => {
            client.delete(&["merchants", &merchant, "v3-key"]).await?
        }
        MerchantVerb::AddCertificate {
            merchant,
            certificate,
        } => {
            let path = ["merchants", &merchant, "certificates"];
            client.post(&path, &certificate_of(certificate)?).await?
        }
        MerchantVerb::RemoveCertificate { merchant, serial } => {
            client
                .delete(&["merchants", &merchant, "certificates", &serial])
                .await?
        }
        MerchantVerb::AddPlatformKey { merchant, key } => {
            let body = platform_key_of(&key.pem, key.id)?;
            client
                .post(&["merchants", &merchant, "platform-keys"], &body)
                .await?
        }
        MerchantVerb::RemovePlatformKey { merchant, serial } => {
            client
                .delete(&["merchants", &merchant, "platform-keys", &serial])
                .await?
        }
    };
    show(&answer, connection)
}

/// The lists of a merchant are shown as tables below it.
fn show(answer: &Value, connection: &Connection) -> Result<()> {
    if connection.json {
        return print_json(answer);
    }
    let mut merchant = answer.as_object().context("a merchant")?.clone();
    let keys = ["serial", "ends_at", "added_at"];
    let lists = [
        ("certificates", &keys[..]),
        ("platform_keys", &keys),
        (
            "accounts",
            &["app_id", "sub_mch_id", "notify_url", "grants"],
        ),
    ];
    let lists = lists.map(|(name, columns)| (merchant.remove(name), columns));
    print_one(&Value::Object(merchant))?;
    for (list, columns) in lists {
        print_list(&list.unwrap_or_default(), columns)?;
    }
    Ok(())
}

fn added(args: AddArgs) -> Result<Value> {
    let mut merchant = json!({
        "mch_id": args.merchant,
        "tenant_id": args.tenant,
        "name": args.name,
        "public_url": args.public_url,
        "v3_key": value_or_file(&args.v3_key)?,
        "certificate": certificate_of(args.certificate)?,
    });
    if let Some(pem) = &args.public_key {
        merchant["platform_key"] = platform_key_of(pem, args.public_key_id)?;
    }
    Ok(merchant)
}

fn certificate_of(args: CertificateArgs) -> Result<Value> {
    let certificate = args.certificate.as_deref().map(value_or_file).transpose()?;
    let mut body = present([("certificate", certificate), ("serial", args.serial)]);
    body.insert(
        "private_key".into(),
        value_or_file(&args.private_key)?.into(),
    );
    Ok(body.into())
}

fn platform_key_of(pem: &str, id: Option<String>) -> Result<Value> {
    let mut body = present([("id", id)]);
    body.insert("pem".into(), value_or_file(pem)?.into());
    Ok(body.into())
}

fn binding(args: &BindArgs) -> Value {
    let mut grants = Map::from_iter([(String::from("refunds"), Value::from(args.refunds))]);
    for (name, sum) in [
        ("order_fen", args.order_fen),
        ("person_day_fen", args.person_day_fen),
        ("day_fen", args.day_fen),
        ("approve_refunds_above_fen", args.approve_refunds_above_fen),
    ] {
        if let Some(sum) = sum {
            grants.insert(name.into(), sum.into());
        }
    }
    let mut body = present([
        ("sub_mch_id", args.sub_merchant.clone()),
        ("partner_app_id", args.partner_app_id.clone()),
    ]);
    body.insert("grants".into(), grants.into());
    body.into()
}

/// The members that are given.
fn present<const N: usize>(members: [(&str, Option<String>); N]) -> Map<String, Value> {
    let given = members.into_iter();
    let given = given.filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    given.collect()
}
