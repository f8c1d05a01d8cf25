//! The third-party platform of `wxhost sim serve`: invented, shown as a host is told of it, and pushed tickets.

use std::time::Duration;

use anyhow::Result;
use reqwest::Method;
use serde_json::json;
use wxhost_simulator::api::Control;
use wxhost_simulator::{SimulatedComponent, SystemEnvironment};

use crate::sim::domain;
use crate::transcript;

/// WeChat pushes a ticket so often.
const TICKETS: Duration = Duration::from_secs(600);
/// Until the host takes one, it is tried so often.
const TRIES: Duration = Duration::from_secs(2);

/// Invents a platform whose host is at `host_url`, and shows the command by which the host is told of it.
pub(crate) fn invent(control: &Control, host_url: &str) -> Result<SimulatedComponent> {
    let component = SimulatedComponent::register(host_url, &SystemEnvironment);
    control.put_component(&component)?;
    let path = format!("/components/{}", component.app_id);
    let pages = json!({"oauth_domain": domain(host_url)});
    control.ask(Method::PATCH, &path, &pages)?;
    // Secrets of a pretended platform are there to be copied.
    transcript::say(&format!(
        "  a third-party platform; the host is told of it with\n    \
         wxhost platform add {} --public-url {host_url} \\\n      \
         --secret {} --token {} \\\n      --aes-key {}",
        component.app_id,
        component.secret.expose(),
        component.token.expose(),
        component.aes_key.expose(),
    ));
    Ok(component)
}

/// Pushes tickets, for ever.
pub(crate) async fn push_tickets(control: &Control, component: &SimulatedComponent) {
    let mut was_taken = false;
    loop {
        let told = control.tell(&component.app_id, "ticket", &json!({})).await;
        let is_taken = told.is_ok_and(|told| told["push"]["ok"] == true);
        if is_taken && !was_taken {
            transcript::say("the host has taken a ticket");
        }
        was_taken = is_taken;
        tokio::time::sleep(if is_taken { TICKETS } else { TRIES }).await;
    }
}
