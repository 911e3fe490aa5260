//! The bench filesystem (bench_filesystem.h) on asyncfuse's io_uring connection: a thread with the ring, which one read
//! and the replies reach through channels, and tokio's tasks that answer. Workers as asyncfuse recommends for small
//! operations, one per CPU; --workers 0 takes its default, a task for each request.

use std::ffi::OsStr;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use asyncfuse::raw::prelude::*;
use asyncfuse::{MountOptions, Result, Timestamp};
use bytes::Bytes;
use tokio::signal::unix::{signal, SignalKind};

const ROOT: u64 = 1;
const FILES: u64 = 64;
const FIRST_FILE: u64 = 2; // inode of "0"
const FILE_SIZE: u64 = 64 << 20;
const MAX_WRITE: u32 = 1 << 20;
const ENTRY_VALID: Duration = Duration::from_secs(3600);
const DIRECT_IO: u32 = 1;
const MAX_BACKGROUND: usize = 128;

#[repr(align(4096))] // on a page, in every server alike: it saves the kernel one
struct Content([u8; MAX_WRITE as usize]);

static CONTENT: Content = Content([b'x'; MAX_WRITE as usize]);

struct BenchFilesystem;

fn attr(inode: u64) -> FileAttr {
    let is_root = inode == ROOT;
    FileAttr {
        ino: inode,
        size: if is_root { 0 } else { FILE_SIZE },
        blocks: 0,
        atime: Timestamp::new(0, 0),
        mtime: Timestamp::new(0, 0),
        ctime: Timestamp::new(0, 0),
        kind: if is_root { FileType::Directory } else { FileType::RegularFile },
        perm: if is_root { 0o755 } else { 0o644 },
        nlink: if is_root { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
    }
}

fn inode(parent: u64, name: &OsStr) -> Option<u64> {
    let number: u64 = std::str::from_utf8(name.as_bytes()).ok()?.parse().ok()?;
    (parent == ROOT && number < FILES).then_some(number + FIRST_FILE)
}

impl Filesystem for BenchFilesystem {
    async fn init(&self, _request: Request) -> Result<ReplyInit> {
        Ok(ReplyInit { max_write: NonZeroU32::new(MAX_WRITE).unwrap() })
    }

    async fn destroy(&self, _request: Request) {}

    async fn lookup(&self, _request: Request, parent: u64, name: &OsStr) -> Result<ReplyEntry> {
        let found = inode(parent, name).ok_or(libc::ENOENT)?;
        Ok(ReplyEntry { ttl: ENTRY_VALID, attr: attr(found), generation: 0 })
    }

    async fn getattr(&self, _request: Request, inode: u64, _fh: Option<u64>, _flags: u32) -> Result<ReplyAttr> {
        Ok(ReplyAttr { ttl: Duration::ZERO, attr: attr(inode) })
    }

    async fn open(&self, _request: Request, _inode: u64, _flags: u32) -> Result<ReplyOpen> {
        Ok(ReplyOpen { fh: 0, flags: DIRECT_IO })
    }

    async fn read(&self, _request: Request, _inode: u64, _fh: u64, _offset: u64, size: u32) -> Result<ReplyData> {
        Ok(ReplyData { data: Bytes::from_static(&CONTENT.0[..size as usize]) })
    }

    async fn write(
        &self,
        _request: Request,
        _inode: u64,
        _fh: u64,
        _offset: u64,
        data: &[u8],
        _write_flags: u32,
        _flags: u32,
    ) -> Result<ReplyWrite> {
        Ok(ReplyWrite { written: data.len() as u32 })
    }

    async fn release(
        &self,
        _request: Request,
        _inode: u64,
        _fh: u64,
        _flags: u32,
        _lock_owner: u64,
        _flush: bool,
    ) -> Result<()> {
        Ok(())
    }

    async fn statfs(&self, _request: Request, _inode: u64) -> Result<ReplyStatFs> {
        Ok(ReplyStatFs { blocks: 0, bfree: 0, bavail: 0, files: 0, ffree: 0, bsize: 4096, namelen: 255, frsize: 4096 })
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let mut workers = std::thread::available_parallelism()?.get();
    if arguments.next_if(|argument| argument == "--workers").is_some() {
        workers = arguments.next().and_then(|number| number.to_str()?.parse().ok()).unwrap_or(0);
    }
    let Some(mountpoint) = arguments.next() else {
        eprintln!("usage: asyncfuse [--workers N] MOUNTPOINT");
        std::process::exit(2);
    };

    let mut options = MountOptions::default();
    options.fs_name("bench-asyncfuse").max_write(NonZeroU32::new(MAX_WRITE).unwrap()).direct_io(true);
    let mut session = Session::new(options);
    if workers > 1 {
        session = session.with_workers(workers, MAX_BACKGROUND);
    }
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut mount = session.mount(BenchFilesystem, mountpoint).await?;
    tokio::select! {
        result = &mut mount => return result,
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    mount.unmount().await
}
