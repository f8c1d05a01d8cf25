//! The `wxhost` program: the host itself (`serve`), the operator's verbs over its admin API, and a
//! pretend WeChat to try it with. Thin: parse, call, print.

mod account;
mod audit;
mod calls;
mod client;
mod compile;
mod contacts;
mod events;
mod key;
mod merchant;
mod money;
mod outbox;
mod platform;
mod plugin;
mod quotas;
mod serve;
mod table;
mod tenant;

mod demo;
mod introduction;
mod sim;
mod sim_merchant;
mod sim_platform;
mod transcript;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::client::Connection;

/// A fresh instance per event allocates a lot of small things in many threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Runs tenants' WebAssembly plugins for WeChat official accounts.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a host.
    Serve(serve::ServeArgs),
    /// Tenants: the customers that accounts belong to.
    #[command(subcommand)]
    Tenant(tenant::TenantVerb),
    /// Official accounts (公众号).
    #[command(subcommand)]
    Account(account::AccountVerb),
    /// Third-party platforms (第三方平台), and the accounts that they serve.
    #[command(subcommand)]
    Platform(platform::PlatformVerb),
    /// Merchants of WeChat Pay (微信支付商户), and the accounts whose orders are paid to them.
    #[command(subcommand)]
    Merchant(merchant::MerchantVerb),
    /// An account's money: refunds, facts that its plugin did not take, books.
    #[command(subcommand)]
    Money(money::MoneyVerb),
    /// Plugins and where they are deployed.
    #[command(subcommand)]
    Plugin(plugin::PluginVerb),
    /// What came of the calls of an account's plugins.
    Calls(calls::CallsArgs),
    /// Callbacks that were acknowledged and are not ended, and the dead letters among them.
    #[command(subcommand)]
    Events(events::EventsVerb),
    /// The people who met an account.
    Contacts(contacts::ContactsArgs),
    /// What an account has to send, and what came of it.
    Outbox(outbox::OutboxArgs),
    /// API keys: what tenants' own systems call the host with.
    #[command(subcommand)]
    Key(key::KeyVerb),
    /// Who did what: changes by operators, and what API keys were used for.
    Audit(audit::AuditArgs),
    /// Shows a host at work, with two tenants, three accounts and a pretend WeChat.
    Demo(demo::DemoArgs),
    /// Plays WeChat: sends callbacks to a running host, or answers its API calls.
    Sim(sim::SimArgs),
    /// Compiles a component from standard input to standard output, under limits.
    #[command(hide = true)]
    CompilePlugin,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::CompilePlugin) {
        // Before there are threads: the limits are the whole process's.
        return compile::run();
    }
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            client::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> Result<ExitCode> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok()
        .context("a TLS provider is installed already")?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?
        .block_on(run(cli))
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let connection = cli.connection;
    match cli.command {
        Command::Serve(args) => serve::run(args).await?,
        Command::Tenant(verb) => tenant::run(verb, &connection).await?,
        Command::Account(verb) => account::run(verb, &connection).await?,
        Command::Platform(verb) => platform::run(verb, &connection).await?,
        Command::Merchant(verb) => merchant::run(verb, &connection).await?,
        Command::Money(verb) => money::run(verb, &connection).await?,
        Command::Plugin(verb) => plugin::run(verb, &connection).await?,
        Command::Calls(args) => calls::run(args, &connection).await?,
        Command::Events(verb) => events::run(verb, &connection).await?,
        Command::Contacts(args) => contacts::run(args, &connection).await?,
        Command::Outbox(args) => outbox::run(args, &connection).await?,
        Command::Key(verb) => key::run(verb, &connection).await?,
        Command::Audit(args) => audit::run(args, &connection).await?,
        Command::Demo(args) => return demo::run(args).await,
        Command::Sim(args) => return sim::run(args).await,
        Command::CompilePlugin => return Ok(compile::run()),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_admin_token_does_not_show() {
        let cli = Cli::parse_from(["wxhost", "--admin-token", "f00df00df00d", "tenant", "list"]);
        assert!(!format!("{cli:?}").contains("f00d"));
    }

    #[test]
    fn the_secret_of_a_pretended_app_does_not_show() {
        let secret = "0123456789abcdef0123456789abcdef";
        let app = format!("wx0000:{secret}");
        let cli = Cli::parse_from(["wxhost", "sim", "serve", "--app", &app]);
        assert!(!format!("{cli:?}").contains(secret));
    }
}
