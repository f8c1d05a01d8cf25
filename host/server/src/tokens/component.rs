//! A third-party platform's own token: got with the ticket that WeChat pushes, shared and renewed like every
//! other; and the calls that it opens.

use std::sync::Arc;

use bytes::Bytes;
use secrecy::ExposeSecret;
use tokio::time::Instant;
use wxhost_wechat::api::component::{self, ComponentToken, Secret};
use wxhost_wechat::api::token::Fresh;
use wxhost_wechat::api::{AnswerError, Call, Request};
use wxhost_wechat::errcode;

use super::fetch::{Miss, missed};
use super::{TokenError, Tokens};
use crate::accounts::Platform;
use crate::db::{DbError, platforms};
use crate::seal::{Place, SealError};

/// Why a ticket is not kept.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// It can't be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl Tokens {
    /// Keeps a ticket that WeChat has pushed, unless a newer one is there. It is durable then.
    ///
    /// # Errors
    /// It can't be kept now; WeChat pushes the next one in ten minutes.
    pub async fn keep_ticket(
        &self,
        platform: &Platform,
        ticket: &Secret,
        told_at_ms: i64,
    ) -> Result<(), TicketError> {
        let (db, id) = (self.parts.accounts.db(), platform.app_id.as_str());
        let sealed = self
            .parts
            .keys
            .seal(Place::ticket(id), ticket.expose().as_bytes())?;
        let known = platforms::tickets(db, id).await?;
        let is_the_same = known
            .and_then(|row| self.open_ticket(id, &row.ticket_sealed))
            .is_some_and(|known| known.expose() == ticket.expose());
        platforms::keep_ticket(db, id, (&sealed, is_the_same), told_at_ms).await?;
        if let Some(redis) = self.parts.store.shared() {
            // For when the database is away; Redis logs its own absence.
            let _ = redis.put_ticket(id, &sealed, told_at_ms).await;
        }
        // What was asked for in vain without it may be asked for now.
        let slot = platform
            .slots
            .of(crate::credentials::Credential::ComponentToken);
        slot.forget_pause();
        Ok(())
    }

    fn open_ticket(&self, platform: &str, sealed: &str) -> Option<Secret> {
        let opened = self.parts.keys.open_text(Place::ticket(platform), sealed);
        Secret::parse(opened.ok()?.expose_secret()).ok()
    }

    /// The tickets that may be good, the newest first.
    async fn tickets(&self, platform: &str) -> Vec<Secret> {
        let mut sealed = Vec::new();
        match platforms::tickets(self.parts.accounts.db(), platform).await {
            Ok(row) => {
                let row = row.into_iter();
                sealed.extend(row.flat_map(|row| [Some(row.ticket_sealed), row.former_sealed]));
            }
            Err(error) => {
                tracing::warn!(error = %error, "a platform's tickets can't be read; looking in redis");
                if let Some(redis) = self.parts.store.shared() {
                    sealed.push(redis.ticket(platform).await.unwrap_or_default());
                }
            }
        }
        let sealed = sealed.into_iter().flatten();
        sealed
            .filter_map(|sealed| self.open_ticket(platform, &sealed))
            .collect()
    }

    pub(super) async fn ask_component(
        &self,
        platform: &Arc<Platform>,
        until: Instant,
    ) -> Result<Fresh, Miss> {
        let mut refused = None;
        for ticket in self.tickets(platform.app_id.as_str()).await {
            let call = ComponentToken {
                component_app_id: &platform.app_id,
                secret: &platform.secret,
                ticket: &ticket,
            };
            let answer = self.call(&call, None, until).await?;
            match ComponentToken::answer(&answer) {
                Ok(fresh) => {
                    self.accept_platforms_address(platform);
                    return Ok(fresh);
                }
                Err(AnswerError::Refused(refusal)) if refusal.errcode.refuses_ticket() => {
                    refused = Some(refusal);
                }
                Err(error) => return Err(self.platform_miss(platform, error).await),
            }
        }
        Err(Miss::Final(match refused {
            Some(refusal) => TokenError::Refused(refusal),
            None => TokenError::NoTicket,
        }))
    }

    /// What a refused call of a platform means.
    async fn platform_miss(&self, platform: &Platform, error: AnswerError) -> Miss {
        let id = platform.app_id.as_str();
        match error {
            AnswerError::Refused(refusal)
                if refusal.errcode.on(component::TOKEN_PATH).is_for_address() =>
            {
                let refusal = self.shut(&platform.slots.address, id, &refusal);
                Miss::Final(TokenError::AddressRefused { refusal })
            }
            AnswerError::Refused(refusal)
                if refusal.errcode.on(component::TOKEN_PATH).needs_owner() =>
            {
                let attention = self.attention(id, &refusal);
                let accounts = &self.parts.accounts;
                let noting = accounts.need_operator(id, &platform.secret, &attention);
                self.note_attention(id, noting).await;
                Miss::Final(TokenError::AccountBlocked { attention })
            }
            error => missed(error),
        }
    }

    /// Makes a call of a platform.
    pub(super) async fn platform_call<C: Call + Sync>(
        &self,
        platform: &Arc<Platform>,
        call: &C,
        until: Instant,
    ) -> Result<C::Answer, Miss> {
        let request = call.request();
        // No limit of these calls can be broken by what a platform is made of.
        let request = request.map_err(|_| Miss::Final(TokenError::Unreachable))?;
        let answer = self.platform_exchange(platform, &request, until).await?;
        C::answer(&answer).map_err(missed)
    }

    /// Sends a request of a platform, once more with a fresh token where WeChat refuses the one in hand, and
    /// gives the answer as it came.
    ///
    /// # Errors
    /// There is no token; WeChat refuses this host's address, or gives no answer in time.
    pub(crate) async fn platform_exchange(
        &self,
        platform: &Arc<Platform>,
        request: &Request,
        until: Instant,
    ) -> Result<Bytes, Miss> {
        let mut is_repeated = false;
        loop {
            let token = self.component_token(platform, until).await;
            let token = token.map_err(Miss::Final)?;
            let transport = &self.parts.transport;
            let answer = transport
                .exchange(request, Some(token.expose()), until)
                .await?;
            let Err(refusal) = errcode::read(&answer) else {
                return Ok(answer);
            };
            let told = refusal.errcode.on(&request.path);
            if told.names_bad_token()
                && !is_repeated
                && self.expire_component_token(platform, &token).await
            {
                is_repeated = true;
                continue;
            }
            if told.is_for_address() {
                let id = platform.app_id.as_str();
                let refusal = self.shut(&platform.slots.address, id, &refusal);
                return Err(Miss::Final(TokenError::AddressRefused { refusal }));
            }
            return Ok(answer);
        }
    }

    pub(super) fn accept_platforms_address(&self, platform: &Platform) {
        if platform.slots.address.lift() {
            tracing::info!(
                platform.app_id = platform.app_id.as_str(),
                "WeChat takes this host's address for a platform again"
            );
        }
    }
}
