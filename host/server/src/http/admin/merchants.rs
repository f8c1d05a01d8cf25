//! `/api/v1/merchants`: merchants of WeChat Pay, their keys, and which accounts' orders are paid to them.

use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use wxhost_wechat::pay::{ApiV3Key, MchId};

use super::{JsonBody, Path, Read, SecretText, Write, permission::Everything};
use crate::db::merchants::{self as rows, BindingRow, MerchantRow};
use crate::http::error::{ApiError, ErrorBody};
use crate::merchants::{NewBinding, NewCertificate, NewMerchant, PayGrants, V3KeyTurn};
use crate::services::Services;

/// An API certificate (商户API证书) and its private key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateToAdd {
    /// apiclient_key.pem.
    #[schema(value_type = String, format = Password)]
    private_key: SecretText,
    /// apiclient_cert.pem: says its serial number and when it ends.
    certificate: Option<String>,
    /// Its serial number, where the certificate is not given.
    serial: Option<String>,
}

impl From<CertificateToAdd> for NewCertificate {
    fn from(body: CertificateToAdd) -> Self {
        Self {
            private_key: body.private_key.expose().to_owned(),
            certificate: body.certificate,
            serial: body.serial,
        }
    }
}

/// What WeChat Pay signs with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlatformKeyToAdd {
    /// The id of WeChat Pay's public key (微信支付公钥ID); absent with a platform certificate.
    #[schema(example = "PUB_KEY_ID_0119000000012026112700000000000001")]
    id: Option<String>,
    /// PEM of the public key, or of the platform certificate.
    pem: String,
}

/// A merchant to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MerchantToAdd {
    /// 商户号.
    #[schema(example = "1900000001")]
    mch_id: String,
    /// Whose it is.
    tenant_id: String,
    /// For people.
    #[serde(default)]
    name: String,
    /// Where this host is reached from the internet: WeChat Pay notifies there, and payers find its pages there.
    #[schema(example = "https://pay.example")]
    public_url: String,
    /// APIv3密钥: 32 letters and digits.
    #[schema(value_type = String, format = Password)]
    v3_key: SecretText,
    /// Its API certificate.
    certificate: CertificateToAdd,
    /// WeChat Pay's public key, where the merchant uses it; the host reads platform certificates by itself.
    platform_key: Option<PlatformKeyToAdd>,
}

/// What is to be changed of a merchant; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MerchantToChange {
    /// For people.
    name: Option<String>,
    /// `active` or `disabled`: no new orders then; what was paid is still taken.
    status: Option<String>,
    /// Where this host is reached from the internet.
    public_url: Option<String>,
}

/// An APIv3 key to be tried beside the present one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct V3KeyToStage {
    /// 32 letters and digits.
    #[schema(value_type = String, format = Password)]
    v3_key: SecretText,
}

/// How an account is to be bound.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountToBind {
    /// For whom a partner (服务商) collects.
    sub_mch_id: Option<String>,
    /// The partner's own app id, where orders go under it.
    partner_app_id: Option<String>,
    /// What the account may do there.
    #[serde(default)]
    grants: PayGrants,
}

/// A certificate or key, without the secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownKey {
    /// Its serial number, or the id of a public key.
    serial: String,
    /// When it ends, Unix milliseconds; absent where it does not, or that is not known.
    ends_at: Option<i64>,
    /// Unix milliseconds.
    added_at: i64,
}

/// An account whose orders are paid to a merchant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BoundAccount {
    /// The account.
    app_id: String,
    /// For whom a partner collects.
    sub_mch_id: Option<String>,
    /// The partner's own app id.
    partner_app_id: Option<String>,
    /// What the account may do there.
    grants: PayGrants,
    /// Where WeChat Pay notifies of it; orders carry it by themselves.
    notify_url: String,
}

/// A merchant, without its secrets. Times are Unix milliseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Merchant {
    /// 商户号.
    mch_id: String,
    /// Whose it is.
    tenant_id: String,
    /// For people.
    name: String,
    /// `active` or `disabled`.
    status: String,
    /// Where this host is reached from the internet.
    public_url: String,
    /// The key that WeChat Pay is asked to sign its answers by; its platform certificates if absent.
    answers_by: Option<String>,
    /// API certificates, the one that signs first.
    certificates: Vec<ShownKey>,
    /// What WeChat Pay signs with.
    platform_keys: Vec<ShownKey>,
    /// Whose orders are paid to it.
    accounts: Vec<BoundAccount>,
    /// When it was added.
    created_at: i64,
    /// When it was last changed.
    updated_at: i64,
}

/// All merchants.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Merchants {
    /// In order of their numbers.
    merchants: Vec<Merchant>,
}

async fn shown(services: &Services, row: MerchantRow) -> Result<Merchant, ApiError> {
    let db = &services.db;
    let certificates = rows::certificates(db, &row.mch_id).await?;
    let platform_keys = rows::platform_keys(db, &row.mch_id).await?;
    let bindings = rows::bindings(db, &row.mch_id).await?;
    let bound = bindings
        .into_iter()
        .map(|binding| bound(&row.public_url, binding));
    Ok(Merchant {
        certificates: certificates
            .into_iter()
            .map(|it| ShownKey {
                serial: it.serial,
                ends_at: it.ends_at,
                added_at: it.added_at,
            })
            .collect(),
        platform_keys: platform_keys
            .into_iter()
            .map(|it| ShownKey {
                serial: it.serial,
                ends_at: it.ends_at,
                added_at: it.added_at,
            })
            .collect(),
        accounts: bound.collect::<Result<_, _>>()?,
        mch_id: row.mch_id,
        tenant_id: row.tenant_id,
        name: row.name,
        status: row.status,
        public_url: row.public_url,
        answers_by: row.answers_by,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

fn bound(public_url: &str, row: BindingRow) -> Result<BoundAccount, ApiError> {
    Ok(BoundAccount {
        notify_url: format!("{public_url}/notify/{}/{}", row.app_id, row.mch_id),
        grants: serde_json::from_str(&row.grants).map_err(ApiError::internal)?,
        app_id: row.app_id,
        sub_mch_id: row.sub_mch_id,
        partner_app_id: row.partner_app_id,
    })
}

fn v3_key(text: &SecretText) -> Result<ApiV3Key, ApiError> {
    ApiV3Key::parse(text.expose()).map_err(|error| ApiError::invalid("v3_key", error))
}

/// Adds a merchant.
#[utoipa::path(post, path = "/api/v1/merchants", tag = "merchants", request_body = MerchantToAdd, responses(
    (status = 201, body = Merchant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn add(
    write: Write<Everything>,
    JsonBody(body): JsonBody<MerchantToAdd>,
) -> Result<(StatusCode, Json<Merchant>), ApiError> {
    let new = NewMerchant {
        mch_id: MchId::parse(&body.mch_id).map_err(|e| ApiError::invalid("mch_id", e))?,
        tenant_id: body.tenant_id,
        name: body.name,
        public_url: body.public_url,
        v3_key: v3_key(&body.v3_key)?,
        certificate: body.certificate.into(),
    };
    let services = write.services();
    let author = write.author();
    let platform_key = body.platform_key.as_ref();
    let platform_key = platform_key.map(|key| (key.id.as_deref(), &*key.pem));
    let merchants = services.checkout.merchants();
    let row = merchants.add(new, platform_key, &author).await?;
    write.announce().await;
    Ok((StatusCode::CREATED, Json(shown(services, row).await?)))
}

/// Lists all merchants.
#[utoipa::path(get, path = "/api/v1/merchants", tag = "merchants", responses(
    (status = 200, body = Merchants),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn list(read: Read<Everything>) -> Result<Json<Merchants>, ApiError> {
    let services = read.services();
    let mut merchants = Vec::new();
    for row in rows::changed_after(&services.db, -1).await? {
        merchants.push(shown(services, row).await?);
    }
    Ok(Json(Merchants { merchants }))
}

/// Shows a merchant.
#[utoipa::path(get, path = "/api/v1/merchants/{mch_id}", tag = "merchants", params(("mch_id" = String, Path)), responses(
    (status = 200, body = Merchant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn show(read: Read<MerchantRow>) -> Result<Json<Merchant>, ApiError> {
    Ok(Json(shown(read.services(), read.object.clone()).await?))
}

/// Changes a merchant.
#[utoipa::path(patch, path = "/api/v1/merchants/{mch_id}", tag = "merchants", params(("mch_id" = String, Path)), request_body = MerchantToChange, responses(
    (status = 200, body = Merchant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn change(
    write: Write<MerchantRow>,
    JsonBody(body): JsonBody<MerchantToChange>,
) -> Result<Json<Merchant>, ApiError> {
    let change = (body.name, body.status, body.public_url);
    let (services, author) = (write.services(), write.author());
    let merchants = services.checkout.merchants();
    let row = merchants
        .change(&write.object.mch_id, change, &author)
        .await?;
    write.announce().await;
    Ok(Json(shown(services, row).await?))
}

/// Stages the next APIv3 key: it and the present one are both tried from now on. Then change it in WeChat's console.
#[utoipa::path(put, path = "/api/v1/merchants/{mch_id}/v3-key", tag = "merchants", params(("mch_id" = String, Path)), request_body = V3KeyToStage, responses(
    (status = 200, body = Merchant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn stage_v3_key(
    write: Write<MerchantRow>,
    JsonBody(body): JsonBody<V3KeyToStage>,
) -> Result<Json<Merchant>, ApiError> {
    let turn = V3KeyTurn::Stage(v3_key(&body.v3_key)?);
    turn_v3_key(write, turn).await
}

/// Lets the older APIv3 key go: a day after the change nothing is told under it any more.
#[utoipa::path(delete, path = "/api/v1/merchants/{mch_id}/v3-key", tag = "merchants", params(("mch_id" = String, Path)), responses(
    (status = 200, body = Merchant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn settle_v3_key(write: Write<MerchantRow>) -> Result<Json<Merchant>, ApiError> {
    turn_v3_key(write, V3KeyTurn::Settle).await
}

async fn turn_v3_key(
    write: Write<MerchantRow>,
    turn: V3KeyTurn,
) -> Result<Json<Merchant>, ApiError> {
    let (services, author) = (write.services(), write.author());
    let merchants = services.checkout.merchants();
    let row = merchants
        .turn_v3_key(&write.object.mch_id, turn, &author)
        .await?;
    write.announce().await;
    Ok(Json(shown(services, row).await?))
}

/// Adds an API certificate, which signs from now on; up to three are kept.
#[utoipa::path(post, path = "/api/v1/merchants/{mch_id}/certificates", tag = "merchants", params(("mch_id" = String, Path)), request_body = CertificateToAdd, responses(
    (status = 200, body = Merchant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn add_certificate(
    write: Write<MerchantRow>,
    JsonBody(body): JsonBody<CertificateToAdd>,
) -> Result<Json<Merchant>, ApiError> {
    let mch_id = &write.object.mch_id;
    let merchants = write.services().checkout.merchants();
    let author = write.author();
    merchants
        .add_certificate(mch_id, &body.into(), &author)
        .await?;
    changed(&write).await
}

/// Removes an API certificate.
#[utoipa::path(delete, path = "/api/v1/merchants/{mch_id}/certificates/{serial}", tag = "merchants", params(("mch_id" = String, Path), ("serial" = String, Path)), responses(
    (status = 200, body = Merchant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn remove_certificate(
    write: Write<MerchantRow>,
    Path((mch_id, serial)): Path<(String, String)>,
) -> Result<Json<Merchant>, ApiError> {
    let merchants = write.services().checkout.merchants();
    let author = write.author();
    merchants
        .remove_certificate((&mch_id, &serial), &author)
        .await?;
    changed(&write).await
}

/// Adds something that WeChat Pay signs with: its public key, or a platform certificate.
#[utoipa::path(post, path = "/api/v1/merchants/{mch_id}/platform-keys", tag = "merchants", params(("mch_id" = String, Path)), request_body = PlatformKeyToAdd, responses(
    (status = 200, body = Merchant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn add_platform_key(
    write: Write<MerchantRow>,
    JsonBody(body): JsonBody<PlatformKeyToAdd>,
) -> Result<Json<Merchant>, ApiError> {
    let mch_id = &write.object.mch_id;
    let merchants = write.services().checkout.merchants();
    let author = write.author();
    let key = (body.id.as_deref(), &*body.pem);
    merchants.add_platform_key(mch_id, key, &author).await?;
    changed(&write).await
}

/// Removes something that WeChat Pay signs with no more.
#[utoipa::path(delete, path = "/api/v1/merchants/{mch_id}/platform-keys/{serial}", tag = "merchants", params(("mch_id" = String, Path), ("serial" = String, Path)), responses(
    (status = 200, body = Merchant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn remove_platform_key(
    write: Write<MerchantRow>,
    Path((mch_id, serial)): Path<(String, String)>,
) -> Result<Json<Merchant>, ApiError> {
    let merchants = write.services().checkout.merchants();
    let author = write.author();
    merchants
        .remove_platform_key((&mch_id, &serial), &author)
        .await?;
    changed(&write).await
}

/// Binds an account to a merchant, or changes what it may do there.
#[utoipa::path(put, path = "/api/v1/merchants/{mch_id}/accounts/{app_id}", tag = "merchants", params(("mch_id" = String, Path), ("app_id" = String, Path)), request_body = AccountToBind, responses(
    (status = 200, body = Merchant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn bind(
    write: Write<MerchantRow>,
    Path((mch_id, app_id)): Path<(String, String)>,
    JsonBody(body): JsonBody<AccountToBind>,
) -> Result<Json<Merchant>, ApiError> {
    let sub_mch_id = body.sub_mch_id.as_deref().map(MchId::parse).transpose();
    let new = NewBinding {
        app_id,
        sub_mch_id: sub_mch_id.map_err(|e| ApiError::invalid("sub_mch_id", e))?,
        partner_app_id: body.partner_app_id,
        grants: body.grants,
    };
    let merchants = write.services().checkout.merchants();
    merchants.bind(&mch_id, new, &write.author()).await?;
    changed(&write).await
}

/// Takes an account from a merchant; not while money is under way.
#[utoipa::path(delete, path = "/api/v1/merchants/{mch_id}/accounts/{app_id}", tag = "merchants", params(("mch_id" = String, Path), ("app_id" = String, Path)), responses(
    (status = 200, body = Merchant),
    (status = "4XX", body = ErrorBody),
))]
pub(super) async fn unbind(
    write: Write<MerchantRow>,
    Path((mch_id, app_id)): Path<(String, String)>,
) -> Result<Json<Merchant>, ApiError> {
    let merchants = write.services().checkout.merchants();
    let author = write.author();
    merchants.unbind((&mch_id, &app_id), &author).await?;
    changed(&write).await
}

/// Takes over what was changed of a merchant's keys or accounts, and shows it.
async fn changed(write: &Write<MerchantRow>) -> Result<Json<Merchant>, ApiError> {
    write.announce().await;
    let services = write.services();
    let row = rows::find(&services.db, &write.object.mch_id).await?;
    let row = row.ok_or_else(|| ApiError::not_found("merchant", &write.object.mch_id))?;
    Ok(Json(shown(services, row).await?))
}
