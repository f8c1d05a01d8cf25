//! What WeChat Pay tells: verified, opened, compared with whom it is told to, and kept with all that follows before it
//! is acknowledged.

use std::sync::Arc;

use wxhost_wechat::pay::{
    Envelope, Notice, NoticeError as Unreadable, Refund, SignatureError, Signed, Transaction,
};

use super::PayLane;
use crate::checkout::{self, Unbelievable};
use crate::db::ledger::notices::{self, Said};
use crate::db::ledger::{Applied, Number};
use crate::db::{DbError, patiently};
use crate::merchants::{Binding, Merchant};
use crate::seal::{Place, SealError};

/// Where a notice came to.
#[derive(Clone, Copy, Debug)]
pub enum NoticeAddress<'a> {
    /// An account's own, at a merchant.
    Own {
        /// The account.
        app_id: &'a str,
        /// The merchant.
        mch_id: &'a str,
    },
    /// One for all, as an older system may have used it: whose it is, the key tells that signs, and what is said.
    Shared,
}

/// Why a notice is not acknowledged. WeChat Pay tells it again.
#[derive(Debug, thiserror::Error)]
pub enum NoticeError {
    /// No merchant of an account is reached at this address.
    #[error("no account's merchant is notified at this address")]
    Address,
    /// It is not WeChat Pay's, or too old.
    #[error("the notice can't be verified: {0}")]
    Signature(#[from] SignatureError),
    /// It does not open, or is not what it should be.
    #[error("the notice can't be read: {0}")]
    Unreadable(#[from] Unreadable),
    /// It is of an account that is not bound to the merchant.
    #[error("the notice is of an account that is not bound to the merchant")]
    Account,
    /// It can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl NoticeError {
    /// A stable word, in kebab-case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Address => "no-such-address",
            Self::Signature(SignatureError::Stale { .. }) => "notice-stale",
            Self::Signature(SignatureError::UnknownSerial(_)) => "notice-serial-unknown",
            Self::Signature(SignatureError::Missing(_)) => "notice-unsigned",
            Self::Signature(SignatureError::Wrong) => "notice-forged",
            Self::Unreadable(_) => "notice-unreadable",
            Self::Account => "notice-account-unknown",
            Self::Seal(_) => "internal-error",
            Self::Database(_) => "unavailable",
        }
    }
}

impl PayLane {
    /// Takes a notice: once this returns, it is kept and done, and may be acknowledged.
    ///
    /// # Errors
    /// It is not WeChat Pay's, or can't be kept now.
    pub async fn take(
        &self,
        address: NoticeAddress<'_>,
        (signed, body): (Signed<'_>, &[u8]),
    ) -> Result<Applied, NoticeError> {
        let merchant = self.merchant(address, &signed)?;
        self.verify(&merchant, signed, body).await?;
        let envelope = Envelope::read(body)?;
        let notice = open(&merchant, &envelope)?;
        let taken = match &notice {
            Notice::Transaction(told) => {
                self.take_payment(address, &merchant, &envelope, told)
                    .await?
            }
            Notice::Refund(told) => {
                self.take_refund(address, &merchant, &envelope, told)
                    .await?
            }
            // Of the others the host keeps no books.
            _ => {
                tracing::info!(
                    merchant.mch_id = %merchant.mch_id,
                    notice.event_type = envelope.event_type,
                    "wechat pay tells of something that the host does not follow"
                );
                return Ok(Applied::Before);
            }
        };
        if let Applied::Flagged(code, why) = &taken {
            self.services.metrics.pay_flagged.inc();
            tracing::error!(
                merchant.mch_id = %merchant.mch_id,
                notice.id = envelope.id,
                code,
                reason = why,
                "a notice of wechat pay contradicts the ledger: it is kept, and not applied"
            );
        }
        self.services.checkout.wake();
        Ok(taken)
    }

    /// Whose the notice is by its address, or by the key that it is signed with.
    fn merchant(
        &self,
        address: NoticeAddress<'_>,
        signed: &Signed<'_>,
    ) -> Result<Arc<Merchant>, NoticeError> {
        let merchants = self.services.checkout.merchants();
        match address {
            NoticeAddress::Own { app_id, mch_id } => {
                let binding = merchants.binding(app_id, mch_id);
                let binding = binding.ok_or(NoticeError::Address)?;
                Ok(Arc::clone(&binding.merchant))
            }
            NoticeAddress::Shared => {
                let mut found = merchants.of_serial(signed.serial).into_iter();
                let unknown = SignatureError::UnknownSerial(signed.serial.to_owned());
                Ok(found.next().ok_or(unknown)?)
            }
        }
    }

    async fn verify(
        &self,
        merchant: &Merchant,
        signed: Signed<'_>,
        body: &[u8],
    ) -> Result<(), NoticeError> {
        let now_s = self.services.clock.now_seconds();
        let known = |serial: &str| merchant.platform_key(serial).cloned();
        match signed.check(body, &known, now_s) {
            Err(SignatureError::UnknownSerial(serial)) if merchant.uses_certificates() => {
                self.renew_for(merchant);
                Err(SignatureError::UnknownSerial(serial).into())
            }
            checked => Ok(checked?),
        }
    }

    async fn take_payment(
        &self,
        address: NoticeAddress<'_>,
        merchant: &Merchant,
        envelope: &Envelope,
        told: &Transaction,
    ) -> Result<Applied, NoticeError> {
        let told_app = told.sub_app_id.as_ref().unwrap_or(&told.app_id);
        let (app_id, binding) = self.binding(address, merchant, told_app)?;
        let number = Number {
            app_id: &app_id,
            mch_id: merchant.mch_id.as_str(),
            number: &told.out_trade_no,
        };
        let transaction = told.transaction_id.as_deref().unwrap_or(&envelope.id);
        let fact = format!("{}/transaction/{transaction}", merchant.mch_id);
        let believed = checkout::payment(&binding, &app_id, told);
        let said = match &believed {
            Ok(believed) => Said::Paid(believed.as_row()),
            Err(Unbelievable { code, why }) => Said::Unbelievable(number, code, why),
        };
        self.keep((&app_id, &fact), envelope, said).await
    }

    async fn take_refund(
        &self,
        address: NoticeAddress<'_>,
        merchant: &Merchant,
        envelope: &Envelope,
        told: &Refund,
    ) -> Result<Applied, NoticeError> {
        let mch_id = merchant.mch_id.as_str();
        let app_id = match address {
            NoticeAddress::Own { app_id, .. } => app_id.to_owned(),
            // A refund names no account: whoever's order it is of.
            NoticeAddress::Shared => {
                let found = self.account_of_order(mch_id, &told.out_trade_no).await?;
                found.ok_or(NoticeError::Account)?
            }
        };
        let (app_id, binding) = self.binding(address, merchant, &app_id)?;
        let number = Number {
            app_id: &app_id,
            mch_id,
            number: &told.out_refund_no,
        };
        let fact = format!("{mch_id}/refund/{}/{:?}", told.refund_id, told.status);
        let believed = checkout::refund_news(&binding, &app_id, (told, "notice"));
        let said = match &believed {
            Ok(news) => Said::Refund(*news),
            Err(Unbelievable { code, why }) => Said::Unbelievable(number, code, why),
        };
        self.keep((&app_id, &fact), envelope, said).await
    }

    /// The account that a notice is for: of its own address that one, whatever it says.
    fn binding(
        &self,
        address: NoticeAddress<'_>,
        merchant: &Merchant,
        told_app: &str,
    ) -> Result<(String, Arc<Binding>), NoticeError> {
        let app_id = match address {
            NoticeAddress::Own { app_id, .. } => app_id,
            NoticeAddress::Shared => told_app,
        };
        let merchants = self.services.checkout.merchants();
        let binding = merchants.binding(app_id, merchant.mch_id.as_str());
        let binding = binding.ok_or(NoticeError::Account)?;
        Ok((app_id.to_owned(), binding))
    }

    async fn account_of_order(
        &self,
        mch_id: &str,
        out_trade_no: &str,
    ) -> Result<Option<String>, DbError> {
        let db = &self.services.db;
        patiently(crate::db::ledger::orders::account_of(
            db,
            (mch_id, out_trade_no),
        ))
        .await
    }

    async fn keep(
        &self,
        (app_id, fact): (&str, &str),
        envelope: &Envelope,
        said: Said<'_>,
    ) -> Result<Applied, NoticeError> {
        let clear = serde_json::to_vec(envelope).unwrap_or_default();
        let sealed = self
            .services
            .keys
            .seal(Place::pay_notice(app_id, fact), &clear)?;
        let notice = notices::Notice {
            fact,
            id: &envelope.id,
            body_sealed: &sealed,
        };
        let kept = notices::keep(&self.services.db, notice, said);
        Ok(patiently(kept).await?)
    }
}

/// Opens a notice with whichever of the merchant's APIv3 keys it was sealed with.
fn open(merchant: &Merchant, envelope: &Envelope) -> Result<Notice, NoticeError> {
    let mut failed = None;
    for key in merchant.v3_keys() {
        match envelope.open(key) {
            Ok(notice) => return Ok(notice),
            // The newest key's word counts, if none opens it.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.map_or(NoticeError::Address, NoticeError::Unreadable))
}
