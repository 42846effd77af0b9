use coffer_sandbox::provider::{ObjectVersion, Pod};

use super::*;
use crate::api::class::SecretData;

pub(super) fn look() -> Look {
    let object = |id: &str| ObjectVersion { id: id.into(), version: "1".into() };
    let data = SecretData { object_name: "file".into(), key: "key".into() };
    let wanted =
        SecretObject { secret_name: "app".into(), kind: "Opaque".into(), data: vec![data], ..SecretObject::default() };
    Look {
        volume: "csi-1".into(),
        target: "/target".into(),
        pod: Pod { name: "p".into(), namespace: "shop".into(), uid: "u".into(), service_account: "sa".into() },
        class: "kv".into(),
        provider: "azure".into(),
        wanted: Arc::new([wanted]),
        objects: vec![object("b"), object("a")],
        synced: None,
        fetched: None,
        changed: false,
        kept: false,
    }
}

fn with(change: impl FnOnce(&mut SecretObject)) -> Look {
    let mut look = look();
    let mut wanted = look.wanted[0].clone();
    change(&mut wanted);
    look.wanted = Arc::new([wanted]);
    look
}

#[test]
fn the_mark_changes_with_every_wish_and_every_version_and_with_nothing_else() {
    let mark = look().mark();
    let label = || ("l".to_owned(), "1".to_owned());
    let mut others = vec![
        with(|wanted| wanted.secret_name.push('x')),
        with(|wanted| wanted.kind.push('x')),
        with(|wanted| wanted.labels.extend([label()])),
        with(|wanted| wanted.annotations.extend([label()])),
        with(|wanted| wanted.data[0].key.push('x')),
        with(|wanted| wanted.data[0].object_name.push('x')),
        with(|wanted| wanted.data.push(SecretData::default())),
    ];
    let mut newer = look();
    newer.objects[0].version.push('x');
    others.extend([newer, Look { objects: vec![], ..look() }, Look { wanted: Arc::new([]), ..look() }]);
    let mut marks: Vec<String> = others.iter().map(Look::mark).chain([mark.clone()]).collect();
    marks.sort();
    marks.dedup();
    assert_eq!(marks.len(), 11, "two of them have the same mark");
    let mut same = Look { volume: "other".into(), changed: true, ..look() };
    same.objects.reverse();
    same.pod.uid.push('x');
    assert_eq!(same.mark(), mark, "other volumes of the same content");
}
