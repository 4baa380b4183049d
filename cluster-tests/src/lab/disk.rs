//! A disk of one's own: an ext4 file system in a file, whose power can be cut, and which can fail,
//! stand still, or be full.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{run, try_run};
use crate::wait;

/// `EXT4_IOC_SHUTDOWN`: the file system ends. `perl` is on every Debian and can call it without a
/// compiler.
const SHUT_DOWN: &str = "open(my $d, '<', $ARGV[0]) or die $!; my $how = pack('I', $ARGV[1]); \
                         ioctl($d, 0x8004587D, $how) or die $!;";
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: at once; neither dirty pages nor its journal reach the disk any
/// more, as when the power fails.
const AT_ONCE: &str = "2";
/// `EXT4_GOING_FLAGS_DEFAULT`: between two commits of its journal.
const AFTER_A_COMMIT: &str = "0";
/// What fills a disk, beside the data.
const BALLOON: &str = "balloon";
/// What an ext4 needs beside a file for the file.
const SLACK_BYTES: u64 = 1024 * 1024;
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
        // Nothing is kept for root, who the nodes run as.
        run("mkfs.ext4", &["-q", "-F", "-m", "0", path]);
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
        run("perl", &["-e", SHUT_DOWN, self.mount_text(), AT_ONCE]);
    }

    /// Breaks down under whoever uses it: every later access fails with EIO. Until
    /// [`Disk::power_on`], for which the process that uses it has to have ended.
    ///
    /// Unlike [`Disk::cut_power`] it lies to nobody who lives to see it: ext4 answers a sync that
    /// is under way when its journal is aborted as if it had succeeded, now and then.
    pub fn break_down(&self) {
        run(
            "perl",
            &["-e", SHUT_DOWN, self.mount_text(), AFTER_A_COMMIT],
        );
    }

    /// Becomes read-only, as ext4 does after an error of the device: every later write fails with
    /// EROFS. Until [`Disk::power_on`], as after [`Disk::break_down`]. No sync may be under way,
    /// for the reason given there; see [`crate::node::Node::turn_disk_read_only`].
    pub fn turn_read_only(&self) {
        // A plain remount is refused while a file is open for writing.
        run("mount", &["-o", "remount,abort", self.mount_text()]);
    }

    /// Stands still: who writes waits until what this gives is dropped, and not even SIGKILL ends
    /// that.
    pub fn freeze(&self) -> Frozen<'_> {
        run("fsfreeze", &["-f", self.mount_text()]);
        Frozen(self)
    }

    /// Takes all room but for `leave` bytes, until [`Disk::make_room`].
    pub fn fill(&self, leave: u64) {
        let take = self.free_bytes().saturating_sub(leave.max(SLACK_BYTES));
        let balloon = self.balloon();
        let path = balloon.to_str().expect("temporary paths are plain text");
        run("fallocate", &["-l", &take.max(1).to_string(), path]);
        if leave < SLACK_BYTES {
            let file = File::options().append(true).open(&balloon);
            let mut file = file.expect("the balloon was just made");
            while file.write_all(&[1; 4096]).is_ok() {}
        }
    }

    /// Gives back what [`Disk::fill`] and [`Disk::fill_up`] took.
    pub fn make_room(&self) {
        std::fs::remove_file(self.balloon()).expect("the disk was filled");
    }

    /// Takes all room there is, until [`Disk::make_room`].
    pub fn fill_up(&self) {
        self.fill(0);
    }

    /// Bytes that a process may still write.
    pub fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.mount).expect("a mounted disk has figures");
        stat.f_bavail * stat.f_frsize
    }

    /// The block device under it, as `major:minor`.
    pub fn device(&self) -> String {
        let device = std::fs::metadata(&self.mount).expect("a mounted disk can be looked at");
        let device = device.dev();
        format!(
            "{}:{}",
            rustix::fs::major(device),
            rustix::fs::minor(device)
        )
    }

    fn balloon(&self) -> PathBuf {
        self.mount.join(BALLOON)
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

/// A disk that stands still; it goes on when this is dropped.
#[derive(Debug)]
pub struct Frozen<'a>(&'a Disk);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let thawed = try_run("fsfreeze", &["-u", self.0.mount_text()]);
        if !thawed.status.success() {
            eprintln!("{} stays frozen", self.0.mount.display());
        }
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
