//! The emulator checked against what the services do, over real TLS on loopback, with a client that knows nothing.

mod client;
mod faults;
mod nodes;
mod program;
mod tokens;
mod vaults;

use coffer_tests::harness::{Action, Collection, Emulator, Settings};

use client::Client;

const TENANT: &str = "9c1fd3a4-7f0e-4d4e-8f0e-0b6d2f1f2a11";
const APP: &str = "d3b07384-d9a0-4c5b-8f6e-0d9c2b7a1e55";
const APP_SECRET: &str = "an application's secret";
const VALUE: &str = "MyExampleSecret";

/// An emulator with one tenant, one application that may get secrets, and one vault with one secret.
async fn furnished() -> Emulator {
    let emulator = Emulator::start(Settings::default()).await.unwrap();
    let tenant = emulator.tenant(TENANT);
    tenant.app(APP).secret(APP_SECRET);
    let vault = tenant.vault("kv");
    vault.allow(APP, Collection::Secrets, &[Action::Get]);
    vault.secret("DemoSecret").set(VALUE);
    emulator
}

/// The furnished emulator, a client of it, and a token for the vaults.
async fn signed_in() -> (Emulator, Client, String) {
    let emulator = furnished().await;
    let client = Client::of(&emulator);
    let token = client.token(TENANT, APP, APP_SECRET, "https://vault.azure.net/.default").await;
    (emulator, client, token)
}

/// The same token with another end.
fn altered(token: &str) -> String {
    format!("{}AAAA", token.split_at(token.len() - 4).0)
}
