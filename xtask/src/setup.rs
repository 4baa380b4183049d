//! What this machine needs beside Rust: a C and C++ compiler for RocksDB, libclang for the bindings
//! that are generated from RocksDB's header, git.
//!
//! Rust itself is not checked: cargo has compiled this program, and refuses to when it is older
//! than `rust-version` in Cargo.toml.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Something the build needs, and the package of each system that has it.
struct Need {
    what: &'static str,
    why: &'static str,
    packages: Packages,
    present: fn() -> bool,
}

struct Packages {
    apt: &'static str,
    dnf: &'static str,
    pacman: &'static str,
    apk: &'static str,
    brew: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        what: "a C compiler",
        why: "it links Rust programs and compiles lz4",
        packages: Packages {
            apt: "gcc",
            dnf: "gcc",
            pacman: "gcc",
            apk: "gcc",
            brew: "gcc",
        },
        present: || env::var_os("CC").is_some() || on_path(&["cc", "gcc", "clang"]),
    },
    Need {
        what: "a C++ compiler",
        why: "it compiles RocksDB",
        packages: Packages {
            apt: "g++",
            dnf: "gcc-c++",
            pacman: "gcc",
            apk: "g++",
            brew: "gcc",
        },
        present: || env::var_os("CXX").is_some() || on_path(&["c++", "g++", "clang++"]),
    },
    Need {
        what: "git",
        why: "the checks ask it which files belong to the tree",
        packages: Packages {
            apt: "git",
            dnf: "git",
            pacman: "git",
            apk: "git",
            brew: "git",
        },
        present: || on_path(&["git"]),
    },
    Need {
        what: "libclang with its headers",
        why: "RocksDB's bindings are generated with it",
        // Not libclang1: that lacks the compiler's own headers (stddef.h and so on).
        packages: Packages {
            apt: "libclang-dev",
            dnf: "clang-devel",
            pacman: "clang",
            apk: "clang-dev",
            brew: "llvm",
        },
        present: || libclang().is_some_and(|library| has_builtin_headers(&library)),
    },
];

/// What the lab of `cluster-tests` needs beyond that: disks that lose power, networks to cut.
const LAB_NEEDS: &[Need] = &[
    Need {
        what: "ip",
        why: "cluster tests give each node a network namespace",
        packages: Packages {
            apt: "iproute2",
            dnf: "iproute",
            pacman: "iproute2",
            apk: "iproute2",
            brew: "iproute2mac",
        },
        present: || on_path(&["ip"]),
    },
    Need {
        what: "mkfs.ext4",
        why: "cluster tests give each node a disk that can lose power",
        packages: Packages {
            apt: "e2fsprogs",
            dnf: "e2fsprogs",
            pacman: "e2fsprogs",
            apk: "e2fsprogs",
            brew: "e2fsprogs",
        },
        present: || on_path(&["mkfs.ext4"]),
    },
    Need {
        what: "nft",
        why: "chaos makes links lose packets and reset connections",
        packages: Packages {
            apt: "nftables",
            dnf: "nftables",
            pacman: "nftables",
            apk: "nftables",
            brew: "nftables",
        },
        present: || on_path(&["nft"]) || Path::new("/usr/sbin/nft").exists(),
    },
    Need {
        what: "libfaketime",
        why: "chaos sets the wall clocks of nodes",
        packages: Packages {
            apt: "faketime",
            dnf: "libfaketime",
            pacman: "libfaketime",
            apk: "libfaketime",
            brew: "libfaketime",
        },
        // Its command comes with its library.
        present: || on_path(&["faketime"]),
    },
];

/// Installs what is missing where that can be done unasked (apt-get, and root or sudo without a
/// password); otherwise the error names the command to type. Fast when nothing is missing.
pub fn ensure() -> Result<()> {
    ensure_all(NEEDS)
}

/// The same for the lab. Without root there is no lab, so nothing is missing.
pub fn ensure_lab() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    ensure_all(LAB_NEEDS)
}

fn ensure_all(needs: &'static [Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("xtask: this machine lacks {}: {}", need.what, need.why);
    }
    let Some(root) = apt_as_root() else {
        bail!("install it with:\n    {}", install_command(&missing));
    };
    apt_install(root, &missing)?;
    let still = missing
        .iter()
        .filter(|need| !(need.present)())
        .map(|need| need.what);
    let still: Vec<&str> = still.collect();
    if !still.is_empty() {
        bail!(
            "apt-get succeeded, and still this machine lacks {}",
            still.join(", ")
        );
    }
    Ok(())
}

/// `cargo xtask setup`: the same, and says what was found.
pub fn report() -> Result<()> {
    ensure()?;
    for need in NEEDS {
        println!("ok    {}", need.what);
    }
    if let Some(path) = libclang() {
        println!("      libclang: {}", path.display());
    }
    let runner = if cargo::has_subcommand("nextest") {
        "cargo-nextest"
    } else {
        "cargo test"
    };
    println!("      test runner: {runner}");
    Ok(())
}

fn missing(needs: &'static [Need]) -> Vec<&'static Need> {
    needs.iter().filter(|need| !(need.present)()).collect()
}

fn on_path(names: &[&str]) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs = env::split_paths(&path);
    dirs.any(|dir| names.iter().any(|name| dir.join(name).is_file()))
}

/// The words to put before `apt-get`, or nothing where it cannot be run unasked.
fn apt_as_root() -> Option<&'static [&'static str]> {
    if !on_path(&["apt-get"]) {
        return None;
    }
    if is_root() {
        return Some(&[]);
    }
    // -n: an answer at once instead of a prompt for a password.
    let sudo = succeeds(Command::new("sudo").args(["-n", "true"]));
    sudo.then_some(&["sudo", "-n"])
}

fn is_root() -> bool {
    succeeds(Command::new("sh").args(["-c", "test \"$(id -u)\" = 0"]))
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn apt_install(prefix: &[&str], missing: &[&Need]) -> Result<()> {
    let packages = unique(missing.iter().map(|need| need.packages.apt));
    let apt = |args: &[&str]| {
        let environment = ["env", "DEBIAN_FRONTEND=noninteractive"];
        let words = [prefix, &environment, &["apt-get", "-q", "-y"], args].concat();
        // Standard output stays for the command that was asked for.
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::from(std::io::stderr()));
        cargo::run(&mut command)
    };
    // A machine without package lists answers "unable to locate", and a stale one 404.
    apt(&["update"])?;
    apt(&[&["install", "--no-install-recommends"], packages.as_slice()].concat())
        .context("install by hand, then try again")
}

fn install_command(missing: &[&Need]) -> String {
    type Pick = fn(&Packages) -> &'static str;
    let managers: [(&str, &str, Pick); 4] = [
        ("dnf", "sudo dnf install", |packages| packages.dnf),
        ("pacman", "sudo pacman -S", |packages| packages.pacman),
        ("apk", "sudo apk add", |packages| packages.apk),
        ("brew", "brew install", |packages| packages.brew),
    ];
    let apt: (&str, &str, Pick) = ("apt-get", "sudo apt-get install -y", |packages| {
        packages.apt
    });
    let found = managers
        .into_iter()
        .find(|(program, ..)| on_path(&[program]));
    let (_, command, pick) = found.filter(|_| !on_path(&["apt-get"])).unwrap_or(apt);
    let packages = unique(missing.iter().map(|need| pick(&need.packages)));
    format!("{command} {}", packages.join(" "))
}

fn unique<'a>(packages: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut packages: Vec<&str> = packages.collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// The libclang that the bindings' generator will find: it looks in `LIBCLANG_PATH`, beside
/// `llvm-config`, and in the directories below, of which `/usr/lib/llvm-*/lib` is Debian's.
fn libclang() -> Option<PathBuf> {
    if let Some(path) = env::var_os("LIBCLANG_PATH").map(PathBuf::from) {
        return if path.is_file() {
            Some(path)
        } else {
            library_in(&path)
        };
    }
    let mut roots = vec![
        PathBuf::from("/usr/lib"),
        PathBuf::from("/usr/lib64"),
        PathBuf::from("/usr/local/lib"),
        PathBuf::from("/usr/local/lib64"),
        PathBuf::from("/Library/Developer/CommandLineTools/usr/lib"),
        PathBuf::from("/opt/homebrew/opt/llvm/lib"),
        PathBuf::from("/usr/local/opt/llvm/lib"),
    ];
    roots.retain(|root| root.is_dir());
    roots
        .iter()
        .find_map(|root| library_below(root, 2))
        .or_else(|| library_in(&llvm_libdir()?))
}

fn llvm_libdir() -> Option<PathBuf> {
    let program = env::var_os("LLVM_CONFIG_PATH").unwrap_or_else(|| "llvm-config".into());
    let output = Command::new(program)
        .arg("--libdir")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(path.trim()))
}

fn library_below(dir: &Path, depth: u32) -> Option<PathBuf> {
    if let Some(library) = library_in(dir) {
        return Some(library);
    }
    if depth == 0 {
        return None;
    }
    let entries = fs::read_dir(dir).ok()?.flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .find_map(|path| library_below(&path, depth - 1))
}

fn library_in(dir: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    entries.map(|entry| entry.path()).find(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        // A dangling link does not count.
        name.is_some_and(is_libclang) && path.is_file()
    })
}

/// `libclang.so`, `libclang.so.1`, `libclang-14.so.14.0.6`, `libclang.dylib`; not `libclang-cpp`.
fn is_libclang(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("libclang") else {
        return false;
    };
    let shared = rest.ends_with(".so") || rest.contains(".so.") || rest == ".dylib";
    let version = rest
        .strip_prefix('-')
        .is_none_or(|v| v.starts_with(|c: char| c.is_ascii_digit()));
    shared && version
}

/// Whether the headers that belong to the compiler, not to the C library, are there too.
fn has_builtin_headers(library: &Path) -> bool {
    // Links lead from a common directory to the version's own.
    let real = fs::canonicalize(library).unwrap_or_else(|_| library.to_path_buf());
    let mut dirs = vec![
        PathBuf::from("/usr/lib/clang"),
        PathBuf::from("/usr/lib64/clang"),
    ];
    dirs.extend(
        [library, &real]
            .iter()
            .filter_map(|path| Some(path.parent()?.join("clang"))),
    );
    for root in ["/usr/lib", "/usr/lib64"] {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        dirs.extend(entries.map(|entry| entry.path().join("lib/clang")));
    }
    dirs.iter().any(|dir| {
        let versions = fs::read_dir(dir).into_iter().flatten().flatten();
        versions
            .into_iter()
            .any(|version| version.path().join("include/stddef.h").is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_libclang() {
        for name in [
            "libclang.so",
            "libclang.so.1",
            "libclang-14.so.14.0.6",
            "libclang.dylib",
        ] {
            assert!(is_libclang(name), "{name}");
        }
        for name in [
            "libclang-cpp.so.14",
            "libclang.a",
            "libclangAST.a",
            "libllvm.so",
            "clang",
        ] {
            assert!(!is_libclang(name), "{name}");
        }
    }

    #[test]
    fn a_library_is_found_two_directories_down_and_its_headers_beside_it() {
        let root = env::temp_dir().join(format!("xtask-libclang-{}", std::process::id()));
        let lib = root.join("llvm-99/lib");
        let include = lib.join("clang/99/include");
        fs::create_dir_all(&include).unwrap();
        assert_eq!(library_below(&root, 2), None);
        fs::write(lib.join("libclang-cpp.so.99"), "").unwrap();
        assert_eq!(library_below(&root, 2), None);
        fs::write(lib.join("libclang.so.1"), "").unwrap();
        assert_eq!(library_below(&root, 2), Some(lib.join("libclang.so.1")));
        assert_eq!(library_below(&root, 1), None);
        fs::write(include.join("stddef.h"), "").unwrap();
        assert!(has_builtin_headers(&lib.join("libclang.so.1")));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn packages_are_named_once() {
        assert_eq!(unique(["gcc", "git", "gcc"].into_iter()), ["gcc", "git"]);
    }
}
