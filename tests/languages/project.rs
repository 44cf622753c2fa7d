//! A project of `hookmill module new`, in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hookmill_tests::engine::{built_program, run_within};
use hookmill_tests::hookmill;
use hookmill_tests::process::bound_command;
use tempfile::TempDir;

/// For whatever waits for a compiler on a busy machine.
pub const MINUTES: Duration = Duration::from_mins(15);

/// The repository.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout")
}

/// A file or folder that `make peers` or `make modules` has put there.
fn tool(path: &str) -> PathBuf {
    let tool = checkout().join(path);
    assert!(tool.exists(), "no {}: run make setup peers first", tool.display());
    tool
}

pub struct Project {
    home: TempDir,
    name: String,
}

impl Project {
    /// `hookmill module new --lang LANG NAME`, and links to what its `make` would fetch.
    pub async fn start(language: &str, name: &str) -> Self {
        let home =
            tempfile::Builder::new().prefix("hookmill-project-").tempdir().expect("a temporary folder");
        let project = Self { name: name.to_owned(), home };
        let folder = project.folder();
        let folder = folder.to_str().expect("a path of text");
        let said = hookmill(&["module", "new", "--lang", language, name, "--folder", folder]).await;
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
        let fetched = match language {
            "js" => Some((".tools/guests/js/node_modules", "node_modules")),
            "python" => Some((".tools/guests/venv", ".venv")),
            // `go mod tidy` is for who has no go.sum; the one package lies in the workspace.
            "go" => {
                project.use_go_package();
                None
            }
            _ => None,
        };
        if let Some((from, to)) = fetched {
            std::os::unix::fs::symlink(tool(from), project.folder().join(to)).expect("a link can be made");
        }
        project
    }

    fn use_go_package(&self) {
        let (folder, package) = (self.folder(), tool(".tools/guests/wit-bindgen/pkg"));
        let text = format!("go 1.25\n\nuse (\n\t{}\n\t{}\n)\n", folder.display(), package.display());
        std::fs::write(self.home.path().join("go.work"), text).expect("a file can be written");
        std::fs::write(folder.join("go.sum"), "").expect("a file can be written");
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join(&self.name)
    }

    /// The module that was built.
    pub fn module(&self) -> PathBuf {
        let module = self.folder().join(format!("{}.wasm", self.name));
        assert!(module.is_file(), "make has not built {}", module.display());
        module
    }

    /// `make TARGET`; what it says. It has to succeed.
    pub async fn make(&self, target: &str) -> String {
        let (code, said) = self.run_make(target).await;
        assert_eq!(code, 0, "{said}");
        said
    }

    /// `make TARGET`; what it says. It has to fail.
    pub async fn try_to_make(&self, target: &str) -> String {
        let (code, said) = self.run_make(target).await;
        assert_ne!(code, 0, "{said}");
        said
    }

    async fn run_make(&self, target: &str) -> (i32, String) {
        let mut command: Command = bound_command("make");
        let folders =
            [".tools/guests/bin", ".tools/guests/venv/bin", ".tools/guests/wit-bindgen/bin"].map(tool);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&path))).expect("a path");
        command
            .arg(target)
            .current_dir(self.folder())
            .env("PATH", path)
            .env("HOOKMILL", built_program())
            // The guests of the repository are built with the same versions and profile: most is there already.
            .env("CARGO_TARGET_DIR", checkout().join("transforms/target"))
            .env("CARGO_NET_OFFLINE", "true")
            .env("GOCACHE", checkout().join(".tools/guests/go-cache"))
            .env("GOFLAGS", "-mod=readonly")
            .env("GOPROXY", "off")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", self.home.path().join("go.work"))
            .env("npm_config_offline", "true")
            .env("PIP_NO_INDEX", "1");
        let said = run_within(&format!("make {target}"), command, MINUTES).await;
        (said.code, format!("{}\n{}", said.stdout, said.stderr))
    }

    /// Replaces a piece of a file.
    pub fn change(&self, file: &str, old: &str, new: &str) {
        let path = self.folder().join(file);
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        assert!(text.contains(old), "{file} has no {old}");
        std::fs::write(&path, text.replace(old, new)).expect("the file can be written");
    }
}
