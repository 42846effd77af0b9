//! The walk-through for Arc-enabled Kubernetes: its manifests and its commands as they are, the placeholders filled in.
//!
//! Nothing but the name of the image is provided for beforehand: the cluster has a busybox under it.

use anyhow::{Result, ensure};

use crate::cluster::PATIENCE;
use crate::world::{CLIENT_ID, CLIENT_SECRET, TENANT, VAULT, World};

const CLASS: &str = include_str!("../../../../demo/secretproviderclass.yaml");
const POD: &str = include_str!("../../../../e2e/page/pod.yaml");

pub(crate) async fn run(world: &World) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let fill = |text: &str| {
        text.replace("<key-vault-name>", VAULT)
            .replace("<tenant-Id>", TENANT)
            .replace("<client-id>", CLIENT_ID)
            .replace("<client-secret>", CLIENT_SECRET)
    };
    std::fs::write(folder.path().join("secretproviderclass.yaml"), fill(CLASS))?;
    std::fs::write(folder.path().join("pod.yaml"), POD)?;
    let at = folder.path().display();
    let shell = async |command: &str| {
        let script = format!("cd {at} && {}", fill(command));
        world.cluster.command("sh", &["-ec", script.as_str()], "").await?.ok()
    };

    shell(
        r#"kubectl create secret generic secrets-store-creds --from-literal clientid="<client-id>" --from-literal clientsecret="<client-secret>""#,
    )
    .await?;
    shell("kubectl label secret secrets-store-creds secrets-store.csi.k8s.io/used=true").await?;
    shell("kubectl apply -f secretproviderclass.yaml").await?;
    shell("kubectl apply -f pod.yaml").await?;
    world.cluster.running("default", "busybox-secrets-store-inline").await?;
    let files = shell("kubectl exec busybox-secrets-store-inline -- ls /mnt/secrets-store/").await?;
    ensure!(files == "DemoSecret\n", "`ls` shows {files:?}");
    let value = shell("kubectl exec busybox-secrets-store-inline -- cat /mnt/secrets-store/DemoSecret").await?;
    ensure!(value == "MyExampleSecret", "`cat` shows {value:?}");

    let status = "kubectl wait secretproviderclasspodstatus/busybox-secrets-store-inline-default-akvprovider-demo";
    shell(&format!("{status} --for=jsonpath='{{.status.mounted}}'=true --timeout={}s", PATIENCE.as_secs())).await?;
    let listed =
        shell("kubectl get secretproviderclasspodstatus -o jsonpath='{.items[*].status.objects[*].id}'").await?;
    ensure!(listed == "secret/DemoSecret", "the pod status lists {listed:?}");

    world.cluster.delete_pods("default").await?;
    ensure!(world.cluster.mounts()?.is_empty(), "a volume is left: {:?}", world.cluster.mounts()?);
    shell("kubectl delete secret secrets-store-creds").await?;
    shell("kubectl delete -f secretproviderclass.yaml").await?;
    Ok(())
}
