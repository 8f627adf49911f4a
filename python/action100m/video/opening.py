"""Open a file as a video, or explain in a sentence why it is not one."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import av
import av.stream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from action100m.errors import VideoError
from action100m.video.frames import VideoInfo
from action100m.video.log import FFmpegLog

# Files are untrusted: formats that only list other files or addresses are excluded, and any
# that slip through can open only local files.
_FORMATS = (
    "3g2,3gp,apng,asf,av1,avi,bink,cavsvideo,dirac,dv,dvd,evc,f4v,flic,flv,gif,gxf,h261,h263,"
    "h264,hevc,ivf,ivr,live_flv,lvf,m4a,m4v,matroska,mj2,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,"
    "mpjpeg,msnwc_tcp,mtv,mv,mvi,mxf,nsv,nut,obu,ogg,r3d,rawvideo,rm,roq,smk,swf,thp,vc1,"
    "vc1test,vivo,vob,vvc,webm,wtv,xmv,yuv4mpegpipe"
)
# Accept titles in any encoding. PyAV 19 always accepts them and does not have this option.
_METADATA: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
_PLAYLISTS = {"hls", "dash", "concat", "concatf", "sdp", "rtsp", "imf", "ffmetadata", "webvtt"}
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS
_MP4_BOXES = {b"ftyp", b"mdat", b"free", b"wide", b"skip", b"moov"}
_AGAIN = "Download it again, or delete it."
_REMOVE = "Delete it, or take it out of the run with `action100m remove`."
_REFUSED = re.compile(r"(\w+): Format not on whitelist")


def open_video(path: Path, log: FFmpegLog) -> tuple[InputContainer, VideoStream]:
    """Open a file and choose its video stream; all other streams are discarded.

    Raises:
        VideoError: the file cannot be read, is not a video, or has no video stream that this
            machine can decode.
    """
    head = _read_head(path)
    log.take()
    try:
        # "file:" keeps FFmpeg from interpreting names such as `concat:a` or `a%03d.mp4`.
        container = av.open(
            f"file:{path.absolute()}",
            container_options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
            **_METADATA,
        )
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(_why_not_open(head, log.take(), error)) from error
    try:
        return container, _choose_stream(container)
    except BaseException:
        container.close()
        raise


def describe(container: InputContainer, stream: VideoStream, display: tuple[int, int]) -> VideoInfo:
    """Return what an open file says about its video, after its first frame has been decoded.

    Args:
        container, stream: as returned by `open_video`.
        display: width, height of the first frame as displayed.
    """
    # Without timestamps there is nothing to average, so the codec's rate is better. For raw DV,
    # FFmpeg gives its tick rate as the average.
    untimed = container.format.flags & _NO_TIMESTAMPS or container.format.name == "dv"
    rate = stream.guessed_rate if untimed else stream.average_rate or stream.guessed_rate
    return VideoInfo(
        *display,
        frame_rate=float(rate) if rate and rate > 0 else None,
        duration=container.duration / 1e6 if container.duration else None,
        codec=stream.codec_context.codec.canonical_name,
        container=container.format.name,
    )


def _read_head(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise VideoError("Not a file but a folder, a device or a pipe. Give a video file.")
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise VideoError("The file does not exist. Check its path.") from None
    except ValueError as error:
        raise VideoError(f"No file can have this name: {error}. Check its path.") from None
    except PermissionError:
        reason = "The file cannot be read: permission denied. Make it readable for your user."
        raise VideoError(reason) from None
    except OSError as error:
        reason = f"The file cannot be read: {error.strerror}. Check its disk or network share."
        raise VideoError(reason, transient=True) from error
    if not head:
        raise VideoError("The file is empty. Download it again.")
    return head


def _why_not_open(head: bytes, messages: list[str], error: Exception) -> str:
    refused = next((m for m in map(_REFUSED.search, messages) if m), None)
    if refused:
        return _why_refused(refused.group(1))
    if head[4:8] in _MP4_BOXES:
        if any("moov" in message or "reading header" in message for message in messages):
            return "The file ends before or inside its index (the MP4 moov box). Download it again."
        return f"The MP4 file is damaged: {_words(messages, error)}. Download it again."
    if not head.strip(b"\0"):
        return "Not a video file: it starts with zeros. Download it again."
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        start = head.decode("ascii").split("\n")[0][:40]
        return f"Not a video file: it is text that starts with {start!r}. {_AGAIN}"
    return f"Not a video file, or damaged at its start: {_words(messages, error)}. {_AGAIN}"


def _why_refused(name: str) -> str:
    if name.endswith("_pipe") or name == "image2":
        return f"A still picture, not a video ({name.removesuffix('_pipe').upper()}). {_REMOVE}"
    if name in _PLAYLISTS:
        return f"A playlist, not a video ({name}). Use the files that it lists instead."
    return f"Not a video file: its format is {name!r}. {_REMOVE}"


def _words(messages: list[str], error: Exception) -> str:
    words = messages[0] if messages else getattr(error, "strerror", None) or str(error)
    return words.rstrip(".")


def _choose_stream(container: InputContainer) -> VideoStream:
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [s for s in container.streams.video if not s.disposition & pictures]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams if stream.type != "video"})
        cover = " and a cover picture" if container.streams.video else ""
        what = f"only {', '.join(kinds) or 'nothing'}{cover}"
        raise VideoError(f"No video stream: {what}. Download it with its video, or delete it.")
    defaults = [s for s in streams if s.disposition & Disposition.default] or streams
    best = container.streams.best("video")
    chosen = next((s for s in defaults if s is best), defaults[0])
    if chosen.codec_context is None:
        raise VideoError("PyAV has no decoder for its video codec. Re-encode it with ffmpeg.")
    discard = getattr(av.stream, "Discard", None)  # PyAV 17 has to read and drop the others
    for stream in container.streams:
        if discard is not None and stream is not chosen:
            stream.discard = discard.all
    return chosen
