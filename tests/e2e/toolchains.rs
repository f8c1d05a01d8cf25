//! WeChat libraries in Java and Go call WeChat through the host, and a browser walks through its pages. Not
//! every machine has what that needs, so these run by `cargo xtask interop` only.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::json;
use tokio::process::Command;
use wxhost_tests::account::new_user;
use wxhost_tests::plugin;

use crate::agency::Agency;
use crate::interop::{Talker, expect_wechat_understood, interop, prepare_node, run, talk};
use crate::scenario::scenarios;
use crate::stage::Stage;
use crate::till::Till;
use crate::webshop::{Webshop, return_to};

scenarios! {
    EMBEDDED: java_library_calls_wechat_through_the_host,
        go_library_calls_wechat_through_the_host,
        a_browser_walks_through_an_invitation, a_browser_logs_in, a_browser_pays;
}

/// Where Debian puts the browser.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Says that these are to run.
pub(crate) const WANTED: &str = "WXHOST_INTEROP";

async fn java_library_calls_wechat_through_the_host(stage: Stage) -> Result<()> {
    let place = plugin::target_directory()?.join("interop-java");
    let source = PathBuf::from("src/main/java/Forward.java");
    std::fs::create_dir_all(place.join("src/main/java"))?;
    for file in [PathBuf::from("pom.xml"), source] {
        std::fs::copy(interop("java").join(&file), place.join(&file))?;
    }
    let project = ["--quiet", "--batch-mode", "--file"].map(Into::into);
    let project = project.into_iter().chain([place.join("pom.xml").into()]);
    let project: Vec<std::ffi::OsString> = project.collect();
    run(Command::new("mvn").args(&project).arg("compile")).await?;
    let mut arguments = project;
    arguments.push("exec:java".into());
    let java = Talker {
        program: "mvn".into(),
        arguments,
    };
    expect_wechat_understood(&stage, &[java]).await
}

async fn go_library_calls_wechat_through_the_host(stage: Stage) -> Result<()> {
    let program = plugin::target_directory()?.join("interop-go/forward");
    let mut build = Command::new("go");
    build.current_dir(interop("go")).args(["build", "-o"]);
    run(build.arg(&program).arg(".")).await?;
    let go = Talker {
        program,
        arguments: Vec::new(),
    };
    expect_wechat_understood(&stage, &[go]).await
}

/// A browser that does what a script says, and the directory of its pictures, to be looked at.
async fn scripted(stage: &Stage, script: &str) -> Result<(Talker, PathBuf)> {
    let first = stage.node(&prepare_node).await?;
    let browser = Talker {
        program: "node".into(),
        arguments: vec![first.with_file_name(script).into()],
    };
    let pictures = plugin::target_directory()?.join("pictures");
    std::fs::create_dir_all(&pictures)?;
    Ok((browser, pictures))
}

async fn a_browser_logs_in(stage: Stage) -> Result<()> {
    let (browser, pictures) = scripted(&stage, "login.mjs").await?;
    let (shop, host) = Webshop::open(&stage).await?;
    // The browser reaches the host as it is.
    let page = format!("{}/healthz", host.base());
    let path = format!("/api/v1/accounts/{}", shop.app_id);
    let login = json!({"login": {"site_url": host.base(), "return_urls": [page]}});
    host.admin()
        .call(Method::PATCH, &path, Some(&login))
        .await?;
    let domain = host.base().strip_prefix("http://").context("an address")?;
    let app = format!("/apps/{}", shop.app_id);
    let domain = json!({"oauth_domain": domain});
    shop.api.ask(Method::PATCH, &app, &domain)?;
    let user = new_user()?;
    let follower = json!({"open_ids": [user]});
    let followers = format!("{app}/followers");
    shop.api.ask(Method::POST, &followers, &follower)?;
    let oauth = format!("{}/oauth/{}", host.base(), shop.app_id);
    let task = json!({
        "start": format!("{oauth}/start?{}", return_to(&page)),
        "stranger": format!("{oauth}/back?code=0123456789abcdef&state=s1"),
        "page": page,
        "user": user,
        "cookie": format!("wxhost-session-{}", shop.app_id),
        "pictures": pictures,
        "chromium": CHROMIUM,
    });
    let told = talk(&browser, &task).await?;
    let refused = format!("{page}?login_error=refused");
    ensure!(told["led"] == page && told["refused"] == refused, "{told}");
    // No script of a page sees who it is; the back end asks.
    ensure!(
        told["seen"] == "" && told["kept"]["httpOnly"] == true,
        "{told}"
    );
    let (status, who) = shop
        .ask(&host, &json!({"cookie": told["kept"]["value"]}))
        .await?;
    ensure!(status == 200 && who["open_id"] == user.as_str(), "{who}");
    let said = told["said"].as_str().context("a page")?;
    ensure!(said.contains("login-not-begun"), "{said}");
    Ok(())
}

async fn a_browser_pays(stage: Stage) -> Result<()> {
    let (browser, pictures) = scripted(&stage, "pay.mjs").await?;
    let (till, host) = Till::open(&stage).await?;
    let placed = till.order(&host, "order-000001", 5800).await?;
    let (user, stranger) = (&placed["open_id"], new_user()?);
    let followers = json!({"open_ids": [user, stranger]});
    let path = format!("/apps/{}/followers", till.account.app_id());
    till.api.ask(Method::POST, &path, &followers)?;
    let task = json!({
        "start": placed["page_url"],
        "user": user,
        "stranger": stranger,
        "wechat": till.api.url(),
        "pictures": pictures,
        "chromium": CHROMIUM,
    });
    let told = talk(&browser, &task).await?;
    for (page, text) in [
        ("unpaid", "¥58.00"),
        ("unpaid", "待支付"),
        ("paid", "支付成功"),
        ("again", "支付成功"),
        ("refused", "不是你的"),
    ] {
        let said = told[page].as_str().context("a page")?;
        ensure!(said.contains(text), "{page}: {told}");
    }
    ensure!(
        told["offered"] == false && told["complaints"] == json!([]),
        "{told}"
    );
    till.expect(&host, "order-000001", "paid").await?;
    till.expect_books(&host).await
}

async fn a_browser_walks_through_an_invitation(stage: Stage) -> Result<()> {
    let (browser, pictures) = scripted(&stage, "scan.mjs").await?;
    let (agency, host) = Agency::open(&stage).await?;
    for form in ["pc", "h5"] {
        let (app_id, original_id) = agency.newcomer()?;
        let app = json!({"app_id": app_id, "secret": "0123456789abcdef0123456789abcdef"});
        agency.api.ask(Method::POST, "/apps", &app)?;
        let task = json!({
            "link": agency.invite(&host, &json!({})).await?,
            "form": form,
            "app_id": app_id,
            "pictures": pictures,
            "chromium": CHROMIUM,
        });
        let told = talk(&browser, &task).await?;
        for page in ["said", "again"] {
            let text = told[page].as_str().context("a page")?;
            ensure!(text.contains("授权成功"), "{told}");
        }
        ensure!(
            told["qr_code"] == true && told["complaints"] == json!([]),
            "{told}"
        );
        let reply = agency.ask(&host, (&app_id, &original_id), "hi").await?;
        ensure!(reply == "You wrote: hi", "{reply}");
    }
    Ok(())
}
