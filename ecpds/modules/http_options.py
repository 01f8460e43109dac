"""Options of the `http` family.

MQTT has a module of its own.

Spec: transfer-modules-protocols.md 3.2-3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

from ecpds.model.decode import opt
from ecpds.model.errors import Phase, RemoteConfig
from ecpds.model.names import ByteCount
from ecpds.model.secret import Secret
from ecpds.modules.mqtt_options import HttpMqttOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions(HttpMqttOptions):
    """How an HTTP server is spoken to, and how its pages are read."""

    prefix: ClassVar[str] = "http"

    scheme: Literal["https", "http"] = opt("https", "https or http.")
    port: int | None = opt(None, "Port; empty = 443 or 80.", low=1, high=65535)
    protocol: str = opt("TLS", "Least TLS version: TLS (1.2), TLSv1.2 or TLSv1.3.")
    ssl_validation: bool = opt(True, "Check the certificate.", key="sslValidation")
    strict: bool = opt(True, "Check the name in the certificate.")
    login: str = opt("", "Overrides the login of the host.")
    password: Secret = opt(Secret(""), "Overrides the password of the host.")
    auth_header: bool = opt(True, "Send the login with every request.", key="authheader")
    credentials: bool = opt(True, "Answer challenges (Basic, Digest), also when authheader is no.")
    auth_cache: bool = opt(
        False, "Accepted from older set-ups: answers are always remembered.", key="authcache"
    )
    token_url: str = opt("", "Where a token is fetched; empty = none is.", key="tokenUrl")
    oauth_grant: Literal["client_credentials", "password"] = opt(
        "client_credentials",
        "Kind of the request; password: with the host's login.",
        key="tokenGrant",
    )
    oauth_client: str = opt("", "Client id.", key="tokenClientId")
    oauth_secret: Secret = opt(Secret(""), "Client secret.", key="tokenClientSecret")
    oauth_scope: str = opt("", "Scope that is asked for.", key="tokenScope")
    oauth_client_auth: Literal["body", "basic"] = opt(
        "body", "Where client id and secret are sent.", key="tokenClientAuth"
    )
    oauth_body: Literal["form", "json"] = opt("form", "Form of the request.", key="tokenBody")
    token_path: str = opt("access_token", "Where the token is in the answer.", key="tokenPath")
    token_expiry: str = opt(
        "expires_in",
        "Where its end is: seconds, or milliseconds since 1970; missing = fetched every time.",
        key="tokenExpiryPath",
    )
    token_header: str = opt("Authorization", "Header that carries it.", key="tokenHeader")
    token_prefix: str = opt("Bearer ", "Put before it.", key="tokenPrefix")
    token_lookahead: int = opt(
        60, "Seconds before its end at which it is renewed.", key="tokenLookahead", low=0
    )
    headers: Secret = opt(
        Secret(""), "Further header lines, Name: value; only for the host itself."
    )
    proxy: Secret = opt(
        Secret(""),
        "Proxy: http://[login:password@]host:port, or socks5://…; empty = ectrans.proxy.",
    )
    max_redirects: int = opt(5, "Redirects that are followed.", key="maxRedirects", low=0, high=50)
    circular_redirects: bool = opt(
        False,
        "Follow a redirect to an address that was asked before.",
        key="allowCircularRedirects",
    )
    supported_protocols: tuple[str, ...] = opt(
        (),
        "TLS versions of older set-ups; the least of them counts, 1.2 at least.",
        key="supportedProtocols",
    )
    encode_url: bool = opt(
        True, "Accepted from older set-ups: addresses are always encoded.", key="encodeURL"
    )
    has_parameters: bool = opt(
        True, "Accepted from older set-ups: queries are always kept.", key="hasParameters"
    )
    multipart_mode: str = opt(
        "", "Accepted from older set-ups: forms are those of RFC 7578.", key="multipartMode"
    )
    keep_alive: timedelta = opt(
        timedelta(seconds=30), "How long idle connections are kept.", key="keepAlive", low=0
    )
    dav: Literal["auto", "yes", "no"] = opt(
        "auto", "WebDAV for temporary names and directories; auto: ask the server once."
    )
    use_post: bool = opt(False, "POST instead of PUT.", key="usePost")
    upload_end_point: str = opt(
        "", "Path that takes all uploads, instead of the target name.", key="uploadEndPoint"
    )
    use_multipart: bool = opt(False, "Upload as multipart/form-data.", key="useMultipart")
    filename_attribute: str = opt("filename", "Form field of the file.", key="filenameAttribute")
    expect_continue: bool = opt(
        False, "Ask before the content is sent (Expect: 100-continue).", key="expectContinue"
    )
    use_head: bool = opt(True, "HEAD for sizes; no = GET of one byte.", key="useHead")
    is_directory: bool = opt(True, "Read pages; no = the address itself is the file.", key="dodir")
    url_is_file: bool = opt(False, "The address itself is the file.", key="urlIsFile")
    file_name: str = opt("", "Target name of that file.", key="urlIsFileName")
    slash: Literal["auto", "yes", "no"] = opt(
        "auto",
        "Append / to pages; auto: unless there is a ? or it ends in .html, .htm or .txt.",
        key="urldir",
    )
    parser: Literal["auto", "html", "json", "stac", "csv", "xml", "text"] = opt(
        "auto", "How pages are read; auto: by their Content-Type, else html."
    )
    parser_options: str = opt(
        "", "Fields of json, stac, csv and xml, as k=v,k=v.", key="parserOptions"
    )
    select: str = opt(
        "a[href]", "HTML elements that name files, as a CSS selector; empty = the page is text."
    )
    attribute: str = opt("href", "Attribute with the address; empty = the element's text.")
    list_recursive: bool = opt(False, "List the directories below a page too.", key="listRecursive")
    list_pages: int = opt(
        1000, "Most pages of one listing that follow each other.", key="listMaxPages", low=1
    )
    list_dirs: int = opt(
        50_000, "Most directories of a recursive listing.", key="listMaxDirs", low=1, high=1_000_000
    )
    list_depth: int = opt(
        20, "Most levels of a recursive listing.", key="listMaxDepth", low=1, high=100
    )
    list_waiting: int = opt(
        100,
        "Accepted from older set-ups: what waits is bounded by the other limits.",
        key="listMaxWaiting",
        low=1,
    )
    conditional: bool = opt(
        False, "Do not read a page again that has not changed (ETag, If-Modified-Since)."
    )
    content_compression: bool = opt(
        True, "Accept compressed pages; files never.", key="enableContentCompression"
    )
    is_symlink: Literal["auto", "yes", "no"] = opt(
        "auto",
        "Files without length have the name of their Content-Disposition; yes: all files.",
        key="isSymlink",
    )
    fail_on_empty_symlink: bool = opt(
        False, "Such a file without that header is an error.", key="failOnEmptySymlink"
    )
    ask_each: bool = opt(
        True, "Ask for size and time of entries whose page does not tell.", key="ftpLike"
    )
    list_threads: int = opt(10, "Questions at a time.", key="listMaxThreads", low=1, high=100)
    list_files: int = opt(
        500_000, "Most entries of a page.", key="listMaxFiles", low=1, high=10_000_000
    )
    max_size: ByteCount = opt(
        ByteCount(10 * 1024 * 1024), "Largest page.", key="maxSize", low=1024, high=2**32
    )

    @property
    def least_tls(self) -> str:
        """Return the least TLS version: TLSv1.3 only if nothing older may be spoken."""
        given = {one.strip().lower() for one in self.supported_protocols}
        return "TLSv1.3" if given == {"tlsv1.3"} else self.protocol

    @property
    def origin_port(self) -> int:
        """Return the port of the host itself."""
        return self.port or (443 if self.scheme == "https" else 80)

    @property
    def renames_uploads(self) -> bool:
        """Whether what was uploaded can be found under the name that it was given."""
        return not (self.use_post or self.upload_end_point or self.use_multipart)

    def header_lines(self) -> Mapping[str, str]:
        """Return the further headers; raises RemoteConfig for a line that is none."""
        found = {}
        for line in filter(str.strip, self.headers.reveal().splitlines()):
            name, colon, value = line.partition(":")
            if not colon or not name.strip().replace("-", "").replace("_", "").isalnum():
                raise RemoteConfig("http.headers: a line is not Name: value", phase=Phase.CONNECT)
            found[name.strip()] = value.strip()
        return found

    def fields(self, defaults: Mapping[str, str]) -> dict[str, str]:
        """Return `parser_options` over the defaults; raises RemoteConfig for an unknown one."""
        found = dict(defaults)
        for part in filter(str.strip, self.parser_options.split(",")):
            key, equals, value = part.partition("=")
            if not equals or key.strip() not in defaults:
                known = ", ".join(defaults)
                raise RemoteConfig(
                    f"http.parserOptions: {part.strip()!r} is none of {known}", phase=Phase.LIST
                )
            found[key.strip()] = value if key.strip() == "delimiter" else value.strip()
        return found
