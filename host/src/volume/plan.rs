//! Decides what a write does, from what is there and what shall be there. Pure: reads nothing, changes nothing.
//!
//! The order is what keeps readers from seeing a mix: rubbish away, the new version complete under its own name, links
//! for new names (they lead nowhere yet), then one rename that puts the version in force, and only then links and
//! files that nobody needs any more.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::files::FileSet;
use super::layout::{
    DATA, Entry, FOLDER_MODE, Found, Kind, NEXT_DATA, NEXT_LINK, Node, is_version, link_text, mode_for,
};
use super::step::Step;

/// What a write does, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Ends with putting the new version in force, if there is one. Can be undone until then.
    pub build: Vec<Step>,
    /// Removes what is no longer needed. Every step is worth taking even if one before it failed.
    pub finish: Vec<Step>,
    /// Whether `build` puts a new version in force.
    pub replaces: bool,
    /// Files of the version in force that the new one does not have.
    pub removed: usize,
}

impl Plan {
    /// The way from `found` to `files`, which get the `group`. `version` names the folder of the new version; none if
    /// the version in force holds exactly `files` already.
    pub(super) fn new(found: &Found, files: &FileSet, group: Option<u32>, version: Option<&str>) -> Self {
        let mut plan = Self { replaces: version.is_some(), ..Self::default() };
        plan.sweep(found);
        if let Some(version) = version {
            plan.write(files, group, Path::new(version));
        }
        plan.link(found, files);
        if let Some(version) = version {
            plan.swap(found, version);
        }
        plan.unlink(found, files);
        if version.is_some() {
            plan.retire(found, files);
        }
        plan
    }

    pub(super) fn is_empty(&self) -> bool {
        self.build.is_empty() && self.finish.is_empty()
    }

    /// Removes what a run that was cut short left behind. It goes first, because it may hold the room that is needed.
    fn sweep(&mut self, found: &Found) {
        for (name, entry) in &found.entries {
            let orphan = is_version(name) && matches!(entry, Entry::Folder(_)) && found.current.as_ref() != Some(name);
            let unfinished = name == NEXT_DATA || name.to_str().is_some_and(|name| name.starts_with(NEXT_LINK));
            if orphan || unfinished {
                remove(&mut self.build, name, entry);
            }
        }
    }

    fn write(&mut self, files: &FileSet, group: Option<u32>, version: &Path) {
        let folders = files.folders().into_iter().map(|folder| version.join(folder));
        for path in std::iter::once(version.to_owned()).chain(folders) {
            self.build.push(Step::CreateFolder(path.clone()));
            self.grant(&path, group, FOLDER_MODE);
        }
        for file in files.iter() {
            let path = version.join(file.path());
            self.build.push(Step::CreateFile(path.clone()));
            if !file.is_empty() {
                self.build.push(Step::Write { path: path.clone(), of: file.path().to_owned() });
            }
            self.grant(&path, group, mode_for(group, file.mode()));
        }
    }

    /// The mode comes last: before it nobody but the owner can open what was created, so no other group ever could.
    fn grant(&mut self, path: &Path, group: Option<u32>, mode: u32) {
        if let Some(group) = group {
            self.build.push(Step::SetGroup { path: path.to_owned(), group });
        }
        self.build.push(Step::SetMode { path: path.to_owned(), mode });
    }

    /// Gives every first component its link. What stands in the way is replaced after the swap, so that a failure
    /// before it has destroyed nothing; the link is made ready before, so that it cannot fail for want of room then.
    fn link(&mut self, found: &Found, files: &FileSet) {
        for (index, name) in files.top_level_names().into_iter().enumerate() {
            let text = link_text(OsStr::new(name));
            match found.entries.get(OsStr::new(name)) {
                Some(Entry::Link(there)) if *there == text => {}
                None => self.build.push(Step::Link { path: name.into(), text: text.into() }),
                Some(entry) => {
                    let ready = PathBuf::from(format!("{NEXT_LINK}{index}"));
                    self.build.push(Step::Link { path: ready.clone(), text: text.into() });
                    if let Entry::Folder(nodes) = entry {
                        remove_nodes(&mut self.finish, nodes);
                    }
                    self.finish.push(Step::Rename { from: ready, to: name.into() });
                }
            }
        }
    }

    fn swap(&mut self, found: &Found, version: &str) {
        self.build.push(Step::Link { path: NEXT_DATA.into(), text: version.into() });
        // A rename replaces anything but a folder.
        if let Some(Entry::Folder(nodes)) = found.entries.get(OsStr::new(DATA)) {
            remove_nodes(&mut self.build, nodes);
        }
        self.build.push(Step::Rename { from: NEXT_DATA.into(), to: DATA.into() });
    }

    /// Removes the links of names that are gone. Only what says exactly what Coffer's links say is Coffer's.
    fn unlink(&mut self, found: &Found, files: &FileSet) {
        let wanted = files.top_level_names();
        for (name, entry) in &found.entries {
            let is_wanted = name.to_str().is_some_and(|name| wanted.contains(name));
            if !is_wanted && *entry == Entry::Link(link_text(name)) {
                self.finish.push(Step::RemoveFile(name.into()));
            }
        }
    }

    /// Removes the version that is no longer in force.
    fn retire(&mut self, found: &Found, files: &FileSet) {
        let (Some(version), Some(nodes)) = (&found.current, found.current_nodes()) else { return };
        let is_removed = |node: &&Node| {
            let path = node.path.strip_prefix(version).ok().and_then(Path::to_str);
            node.kind != Kind::Folder && path.is_none_or(|path| files.find(path).is_none())
        };
        self.removed = nodes.iter().filter(is_removed).count();
        remove_nodes(&mut self.finish, nodes);
    }
}

fn remove(steps: &mut Vec<Step>, name: &OsString, entry: &Entry) {
    match entry {
        Entry::Folder(nodes) => remove_nodes(steps, nodes),
        Entry::Link(_) | Entry::File => steps.push(Step::RemoveFile(name.into())),
    }
}

/// From the end, because a folder comes before what is in it.
fn remove_nodes(steps: &mut Vec<Step>, nodes: &[Node]) {
    steps.extend(nodes.iter().rev().map(|node| match node.kind {
        Kind::Folder => Step::RemoveFolder(node.path.clone()),
        Kind::File | Kind::Other => Step::RemoveFile(node.path.clone()),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{Limits, NewFile};

    fn files(paths: &[&str]) -> FileSet {
        let new = |path: &&str| NewFile { path: (*path).into(), mode: Some(0o440), contents: vec![b'x'].into() };
        FileSet::new(paths.iter().map(new), 0o644, &Limits::default()).unwrap()
    }

    fn describe(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| format!("{} {}", step.operation(), step.path().display())).collect()
    }

    fn node(path: &str, kind: Kind) -> Node {
        Node { path: path.into(), kind, mode: 0, group: 0, len: 0 }
    }

    #[test]
    fn a_first_write_puts_the_version_in_force_last() {
        let plan = Plan::new(&Found::default(), &files(&["a", "b/c"]), None, Some("..v"));
        let steps = [
            "create folder ..v",
            "set the mode of ..v",
            "create folder ..v/b",
            "set the mode of ..v/b",
            "create file ..v/a",
            "write ..v/a",
            "set the mode of ..v/a",
            "create file ..v/b/c",
            "write ..v/b/c",
            "set the mode of ..v/b/c",
            "create link a",
            "create link b",
            "create link ..data_tmp",
            "rename ..data_tmp",
        ];
        assert_eq!(describe(&plan.build), steps);
        assert!(plan.finish.is_empty());
    }

    #[test]
    fn everything_of_a_version_gets_the_group_before_its_mode() {
        let plan = Plan::new(&Found::default(), &files(&["b/c"]), Some(7), Some("..v"));
        let steps = [
            "create folder ..v",
            "set the group of ..v",
            "set the mode of ..v",
            "create folder ..v/b",
            "set the group of ..v/b",
            "set the mode of ..v/b",
            "create file ..v/b/c",
            "write ..v/b/c",
            "set the group of ..v/b/c",
            "set the mode of ..v/b/c",
            "create link b",
            "create link ..data_tmp",
            "rename ..data_tmp",
        ];
        assert_eq!(describe(&plan.build), steps);
    }

    #[test]
    fn what_is_foreign_and_in_the_way_is_touched_only_after_the_swap() {
        let mut found = Found::default();
        let folder = vec![node("a", Kind::Folder), node("a/b", Kind::File)];
        found.entries.insert("a".into(), Entry::Folder(folder));
        found.entries.insert("b".into(), Entry::Link("/etc/passwd".into()));
        let plan = Plan::new(&found, &files(&["a", "b"]), None, Some("..v"));
        let end =
            ["create link ..link_tmp.0", "create link ..link_tmp.1", "create link ..data_tmp", "rename ..data_tmp"];
        assert!(describe(&plan.build).ends_with(&end.map(String::from)), "{:?}", plan.build);
        let finish = ["remove a/b", "remove folder a", "rename ..link_tmp.0", "rename ..link_tmp.1"];
        assert_eq!(describe(&plan.finish), finish);
    }

    #[test]
    fn links_that_are_not_ours_are_left_alone() {
        let mut found = Found::default();
        found.entries.insert("mine".into(), Entry::Link("..data/mine".into()));
        found.entries.insert("other".into(), Entry::Link("..data/mine".into()));
        let plan = Plan::new(&found, &files(&[]), None, None);
        assert_eq!(describe(&plan.finish), ["remove mine"]);
        assert!(plan.build.is_empty());
    }
}
