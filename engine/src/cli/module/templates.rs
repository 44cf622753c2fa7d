//! The projects of `hookmill module new`: files of `transforms/templates/`, in the binary.

/// A file of a project, with `{{name}}` where the name of the module comes.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) text: &'static str,
}

/// `from` is below `transforms/`.
macro_rules! files {
    ($($path:literal from $from:literal,)*) => {
        &[$(File { path: $path, text: include_str!(concat!("../../../../transforms/", $from)) }),*]
    };
}

/// What every project has.
pub(super) const SHARED: &[File] = files! {
    "metadata.json" from "templates/metadata.json",
    "wit/transform.wit" from "wit/transform.wit",
};

pub(super) const RUST: &[File] = files! {
    ".gitignore" from "templates/rust/gitignore",
    "Cargo.lock" from "Cargo.lock",
    "Cargo.toml" from "templates/rust/Cargo.toml",
    "Makefile" from "templates/rust/Makefile",
    "README.md" from "templates/rust/README.md",
    "src/lib.rs" from "templates/rust/lib.rs",
    "sdk/Cargo.toml" from "templates/rust/sdk.toml",
};

pub(super) const RUST_SDK: &[File] = files! {
    "sdk/src/clock.rs" from "sdk/src/clock.rs",
    "sdk/src/event.rs" from "sdk/src/event.rs",
    "sdk/src/guest.rs" from "sdk/src/guest.rs",
    "sdk/src/headers.rs" from "sdk/src/headers.rs",
    "sdk/src/lib.rs" from "sdk/src/lib.rs",
    "sdk/src/log.rs" from "sdk/src/log.rs",
    "sdk/src/pointer.rs" from "sdk/src/pointer.rs",
    "sdk/src/settings.rs" from "sdk/src/settings.rs",
    "sdk/src/testing.rs" from "sdk/src/testing.rs",
    "sdk/src/verdict.rs" from "sdk/src/verdict.rs",
};

pub(super) const JS: &[File] = files! {
    ".gitignore" from "templates/js/gitignore",
    "Makefile" from "templates/js/Makefile",
    "README.md" from "templates/js/README.md",
    "build.mjs" from "templates/js/build.mjs",
    "component.js" from "templates/js/component.js",
    "hookmill.js" from "templates/js/hookmill.js",
    "package.json" from "templates/js/package.json",
    "transform.js" from "templates/js/transform.js",
    "transform.test.js" from "templates/js/transform.test.js",
};

pub(super) const PYTHON: &[File] = files! {
    ".gitignore" from "templates/python/gitignore",
    "Makefile" from "templates/python/Makefile",
    "README.md" from "templates/python/README.md",
    "component.py" from "templates/python/component.py",
    "hookmill.py" from "templates/python/hookmill.py",
    "requirements.txt" from "templates/python/requirements.txt",
    "test_transform.py" from "templates/python/test_transform.py",
    "transform.py" from "templates/python/transform.py",
};

pub(super) const GO: &[File] = files! {
    ".gitignore" from "templates/go/gitignore",
    "Makefile" from "templates/go/Makefile",
    "README.md" from "templates/go/README.md",
    "adapter.wat" from "templates/go/adapter.wat",
    "export_hookmill_transform_handler/handler.go" from "templates/go/handler.go",
    "hookmill/hookmill.go" from "templates/go/hookmill.go",
    "transform/transform.go" from "templates/go/transform.go",
    "transform/transform_test.go" from "templates/go/transform_test.go",
};

pub(super) const WAT: &[File] = files! {
    ".gitignore" from "templates/wat/gitignore",
    "Makefile" from "templates/wat/Makefile",
    "README.md" from "templates/wat/README.md",
    "metadata.json" from "templates/wat/metadata.json",
    "transform.wat" from "templates/wat/transform.wat",
};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Every file in the folder is in the list: one that is forgotten would be missing in every project.
    fn complete(folder: &str, files: &[File]) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../transforms").join(folder);
        for entry in std::fs::read_dir(path).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let text = std::fs::read_to_string(
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../transforms").join(folder).join(&name),
            )
            .unwrap();
            let known = files.iter().any(|file| file.text == text);
            assert!(known, "{folder}/{name} is in no project");
        }
    }

    #[test]
    fn no_file_of_a_template_is_forgotten() {
        complete("templates/rust", RUST);
        complete("templates/js", JS);
        complete("templates/python", PYTHON);
        complete("templates/go", GO);
        complete("templates/wat", WAT);
        complete("sdk/src", RUST_SDK);
    }
}
