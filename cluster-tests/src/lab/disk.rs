//! A disk of one's own: an ext4 file system in a file, whose power can be cut.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{run, try_run};
use crate::wait;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: the file system ends at once; neither
/// dirty pages nor its journal reach the disk any more, as when the power fails. `perl` is on every
/// Debian and can call it without a compiler.
const CUT_POWER: &str = "open(my $d, '<', $ARGV[0]) or die $!; my $how = pack('I', 2); \
                         ioctl($d, 0x8004587D, $how) or die $!;";
/// How long a file system may be busy with a process that was just killed.
const UNMOUNT_MAX: Duration = Duration::from_secs(20);

/// A mounted file system of its own.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes a file system of `mib` MiB in a file beside `mount` and mounts it there.
    pub fn new(mount: &Path, mib: u32) -> Disk {
        let image = mount.with_extension("img");
        std::fs::create_dir_all(mount).expect("a temporary directory can be written");
        let path = image.to_str().expect("temporary paths are plain text");
        run("truncate", &["-s", &format!("{mib}M"), path]);
        run("mkfs.ext4", &["-q", "-F", path]);
        let disk = Disk {
            image,
            mount: mount.to_owned(),
        };
        disk.mount();
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Puts on the disk all that was written to it so far.
    pub fn sync(&self) {
        run("sync", &["--file-system", self.mount_text()]);
    }

    /// Cuts the power: what was not synced is gone, and every later access fails. The process that
    /// uses it has to be killed, then [`Disk::power_on`].
    pub fn cut_power(&self) {
        run("perl", &["-e", CUT_POWER, self.mount_text()]);
    }

    /// Mounts it again, as after the power came back.
    pub async fn power_on(&self) {
        wait::until("the disk is not in use", UNMOUNT_MAX, async || {
            let unmounted = try_run("umount", &[self.mount_text()]);
            unmounted.status.success().then_some(())
        })
        .await;
        self.mount();
    }

    fn mount(&self) {
        let image = self.image.to_str().expect("temporary paths are plain text");
        run("mount", &["-o", "loop,noatime", image, self.mount_text()]);
    }

    fn mount_text(&self) -> &str {
        self.mount.to_str().expect("temporary paths are plain text")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because a test that failed may have left a process that uses it.
        let unmounted = try_run("umount", &["-l", self.mount_text()]);
        if !unmounted.status.success() {
            let why = String::from_utf8_lossy(&unmounted.stderr).into_owned();
            eprintln!("{} stays mounted: {why}", self.mount.display());
        }
    }
}
