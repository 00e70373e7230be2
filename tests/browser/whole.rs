//! An appliance with everything that the page shows: replicas of its own, an overlay, a tree of units.

use serde_json::Value;
use slipring_tests::overlay_pool::Overlay;
use slipring_tests::units::Units;
use slipring_tests::{Balancer, Setup};

use super::SLIPRING;
use super::driver::{Browser, LONG};

/// See the module.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) balancer: Balancer,
    pub(crate) units: Units,
    _overlay: Overlay,
}

/// That each unit hangs on its parent, on the page.
pub(crate) const LINKED: &str = "document.querySelectorAll('.unit').length === 8 && !document.querySelector('.unit.dead') && \
     document.querySelectorAll('#waves .edge').length === 7 && !document.querySelector('#waves .edge.moved, #waves .edge.lost')";

impl Whole {
    /// Starts all of it; `config` is the units'.
    pub(crate) async fn start(config: &Value, change: impl FnOnce(Setup) -> Setup) -> Self {
        let (overlay, units) = (Overlay::new(), Units::new(config));
        let setup =
            units.setup(SLIPRING).set("fleet.start_timeout", "60s").set("fleet.heartbeat_interval", "1s");
        let setup = change(setup);
        let waves = std::fs::read_to_string(setup.folder().join("slipring.toml")).expect("it was written");
        let balancer = setup.file(&format!("{waves}{}", overlay.pool("overlay"))).start().await;
        Self { balancer, units, _overlay: overlay }
    }

    /// Opens the page on a screen of this size, and waits until everything is drawn.
    pub(crate) async fn open(&self, browser: &Browser, replicas: usize) {
        browser.open(&format!("http://{}/", self.balancer.admin.address)).await;
        super::until_live(browser, replicas).await;
        browser
            .until("the ring", LONG, &format!("document.querySelectorAll('.arc').length === {replicas}"))
            .await;
        let covered = "document.getElementById('overlay-sum').textContent === '6 of 6 processes live; all 7 partitions covered'";
        browser.until("the overlay", LONG, covered).await;
        browser.until("the tree", LONG, LINKED).await;
    }
}
