//! Chromium as a user has it, driven over WebDriver: started for one test, in a folder of its own, and ended with it.

use std::process::Stdio;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use slipring_tests::{Http, Process, skipped, wait_until};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const CHROMEDRIVER: &str = "/usr/bin/chromedriver";
const CHROMIUM: &str = "/usr/bin/chromium";
/// For a browser's start, and for whatever a busy machine makes of a moment.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// Before the number of its port.
const WORDS: &str = "ChromeDriver was started successfully on port ";

/// See the module.
#[derive(Debug)]
pub(crate) struct Browser {
    client: Client,
    driver: Child,
    port: Http,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let Some(pid) = self.driver.id() else { return };
        let driver = Process::new(pid);
        // One that is ended with -9 leaves its browser behind.
        for process in driver.descendants().into_iter().chain([driver]) {
            if process.is_running() {
                process.kill();
            }
        }
    }
}

impl Browser {
    /// A browser of this size; `None`, and said so, where there is none.
    pub(crate) async fn start(width: u32, height: u32) -> Option<Self> {
        if ![CHROMEDRIVER, CHROMIUM].iter().all(|path| std::path::Path::new(path).exists()) {
            skipped(
                "chromium",
                "there is no Chromium with its chromedriver (packages chromium, chromium-driver)",
            );
            return None;
        }
        let profile = TempDir::new().expect("a temporary folder can be made");
        let mut driver = Command::new(CHROMEDRIVER)
            .args(["--port=0"])
            .env("HOME", profile.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver can be started");
        let mut lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        let port = tokio::time::timeout(LONG, async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(port) = line.strip_prefix(WORDS) {
                    return port.trim_end_matches('.').parse::<u16>().ok();
                }
            }
            None
        });
        let port = port.await.ok().flatten().expect("chromedriver says where it listens");
        // It goes on to print, and must not wait for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.path().join("profile").display()),
            // A name that is no address, for the one test that wants one.
            "--host-resolver-rules=MAP appliance.test 127.0.0.1".to_owned(),
        ];
        let capabilities = json!({
            "goog:chromeOptions": { "binary": CHROMIUM, "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("it was written as an object") };
        let url = format!("http://127.0.0.1:{port}");
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let connecting = builder.capabilities(capabilities).connect(&url);
        let client =
            tokio::time::timeout(LONG, connecting).await.expect("a browser in time").expect("a browser");
        let port = Http { address: ([127, 0, 0, 1], port).into() };
        Some(Self { client, driver, port, _profile: profile })
    }

    /// Opens a page.
    pub(crate) async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("the page can be opened");
    }

    /// What a script returns; it may be a promise.
    pub(crate) async fn js(&self, script: &str) -> Value {
        let awaited = format!("return (async () => {{ {script} }})()");
        self.client.execute(&awaited, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Waits until an expression is true in the page.
    pub(crate) async fn until(&self, what: &str, within: Duration, expression: &str) {
        wait_until(what, within, async || match self.js(&format!("return {expression}")).await {
            Value::Bool(true) => Ok(()),
            other => Err(format!("{expression} is {other}")),
        })
        .await;
    }

    /// The text of the first element that a selector finds.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let text =
            self.js(&format!("return document.querySelector('{selector}')?.textContent ?? null")).await;
        text.as_str().unwrap_or_else(|| panic!("there is no {selector}")).to_owned()
    }

    /// Clicks as a user does: it must be there, visible, and covered by nothing.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.client.find(Locator::Css(selector)).await;
        let element = element.unwrap_or_else(|error| panic!("no {selector}: {error}"));
        element.click().await.unwrap_or_else(|error| panic!("{selector} cannot be clicked: {error}"));
    }

    /// Types into a field, which is emptied first.
    pub(crate) async fn enter(&self, selector: &str, text: &str) {
        let element = self.client.find(Locator::Css(selector)).await;
        let element = element.unwrap_or_else(|error| panic!("no {selector}: {error}"));
        element.clear().await.expect("a field can be emptied");
        element.send_keys(text).await.expect("a field takes keys");
    }

    /// Presses keys wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let element = self.client.active_element().await.expect("something has the focus");
        element.send_keys(keys).await.expect("it takes keys");
    }

    /// Chooses an option of a list by its value.
    pub(crate) async fn choose(&self, selector: &str, value: &str) {
        let element = self.client.find(Locator::Css(selector)).await.expect("the list is there");
        element
            .select_by_value(value)
            .await
            .unwrap_or_else(|error| panic!("{selector} has no {value}: {error}"));
    }

    /// A screen of this size: a window has a smallest one, a phone is smaller.
    pub(crate) async fn screen(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.own("goog/cdp/execute", json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": size }))
            .await;
    }

    /// A picture of what is seen.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        self.client.screenshot().await.expect("a picture can be taken")
    }

    /// A command that only chromedriver has.
    async fn own(&self, command: &str, body: Value) -> Value {
        let session = self.client.session_id().await.expect("there is a session").expect("it has a name");
        let answer =
            self.port.call(Method::POST, &format!("/session/{session}/{command}"), body.to_string()).await;
        assert_eq!(answer.status, 200, "{command}: {}", answer.text());
        answer.json()["value"].take()
    }

    /// What the console says since the last look, but for what is only told.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.own("se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().cloned().unwrap_or_default();
        let bad =
            entries.into_iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        bad.map(|entry| entry["message"].to_string()).collect()
    }

    /// Whether the user wants the page dark, and less to move.
    pub(crate) async fn prefers(&self, scheme: &str, motion: &str) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": motion },
        ]);
        let params = json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": features } });
        self.own("goog/cdp/execute", params).await;
    }
}
