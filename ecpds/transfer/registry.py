"""Which code speaks which protocol, and how one Host is used.

Built-in modules come as a tuple from the composition root, so that the single-file binary needs
no package metadata; others register under the entry-point group `ecpds.modules` (name = protocol,
value = class).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Any, Final

from ecpds.model.errors import ConfigError, InputError, RemoteConfig
from ecpds.model.host import Host
from ecpds.model.names import nearest
from ecpds.model.options import OptionFamily
from ecpds.transfer.compress import NO_FILTERS, Filters
from ecpds.transfer.contract import Sidecar, Target, TransferModule
from ecpds.transfer.deliver import DeliveryRules
from ecpds.transfer.meter import Meter, Throttle, Watch
from ecpds.transfer.options import (
    EctransOptions,
    NamingOptions,
    RetrievalOptions,
    UploadOptions,
    delivery_rules,
    listing_style,
    target_of,
    texts,
)
from ecpds.transfer.progress import Progress

GROUP: Final = "ecpds.modules"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Access:
    """How one Host is used: its record, read and checked once for each version of it.

    Compares by identity: an edited Host has another one.
    """

    module: type[TransferModule[Any]]
    target: Target
    options: OptionFamily  # the module's own family
    ectrans: EctransOptions
    upload: UploadOptions
    retrieval: RetrievalOptions
    delivery: DeliveryRules  # for `deliver`
    fetching: Watch  # for `fetch`
    filters: Filters = NO_FILTERS
    compresses: bool = False  # whether `filters` does anything
    uploads: tuple[Throttle, ...] = ()  # what all deliveries to the Host share
    retrievals: tuple[Throttle, ...] = ()

    @property
    def delivers_small(self) -> bool:
        """Tell whether small files may go to the Host in lots, where its module can do so.

        Then a file is written under a temporary name, its size is what proves it, and nothing
        limits, watches or follows it.
        """
        if not self.module.moves_small:
            return False
        rules = self.delivery
        if not rules.naming.temporary or rules.verify == "hash" or rules.watch.slow is not None:
            return False
        if self.compresses or self.digests or self.uploads or self.upload.rate_throttling:
            return False
        return self.ectrans.progress_every is None

    @property
    def digests(self) -> tuple[str, ...]:
        """Return the algorithms whose digests a delivery needs, none for most hosts."""
        needed = self.ectrans.create_checksum or self.ectrans.verify == "hash"
        return self.ectrans.checksum if needed else ()

    def sidecars(self, name: str, digests: Mapping[str, str]) -> list[Sidecar]:
        """Return the checksum files to be written beside the remote file `name`.

        `digests`: hex of the content by algorithm, as asked for by `digests`.
        """
        if not self.ectrans.create_checksum or self.module.keeps_digests:
            return []
        return [
            Sidecar(
                extension=self._extension(algorithm),
                content=_sidecar_text(self.ectrans.sidecar_form, name, digests[algorithm]).encode(
                    errors="surrogateescape"
                ),
            )
            for algorithm in self.ectrans.checksum
            if algorithm in digests
        ]

    def late_sidecars(self, name: str, digests: Mapping[str, str]) -> Iterator[Sidecar]:
        """Yield the same out of digests that are known only when the content was sent."""
        yield from self.sidecars(name, digests)

    def _extension(self, algorithm: str) -> str:
        if algorithm == "md5" and isinstance(self.options, NamingOptions):
            return self.options.digest_extension
        return f".{algorithm}"

    def upload_meter(self, *shared: Throttle) -> Meter:
        """Return the meter of one delivery, with its own rate limit and those it shares."""
        return self._told(_meter(self.upload.rate_throttling, self.uploads + shared))

    def retrieval_meter(self, *shared: Throttle) -> Meter:
        """Return the meter of one retrieval, with its own rate limit and those it shares."""
        return self._told(_meter(self.retrieval.rate_throttling, self.retrievals + shared))

    def _told(self, meter: Meter) -> Meter:
        """Let the meter tell its progress in the log, if that is wanted."""
        if self.ectrans.progress_every is not None:
            meter.on_progress = Progress(self.ectrans.progress_every)
        return meter


class Registry:
    """The transfer modules of this node."""

    def __init__(
        self, builtin: Iterable[type[TransferModule[Any]]], *, installed: bool = False
    ) -> None:
        """Register `builtin`, and with `installed` what other packages offer.

        Raises ConfigError when two modules have one name or an installed one cannot be loaded.
        """
        self._modules: dict[str, type[TransferModule[Any]]] = {}
        for module in builtin:
            self._add(module.name, module)
        for point in entry_points(group=GROUP) if installed else ():
            self._add(point.name, _loaded(point))

    def _add(self, name: str, module: type[TransferModule[Any]]) -> None:
        if name in self._modules:
            raise ConfigError(f"two transfer modules are named {name!r}")
        self._modules[name] = module

    def methods(self) -> list[str]:
        """Return all method names (`genericSftp`), sorted."""
        return sorted(map(method_name, self._modules))

    def families(self) -> list[type[OptionFamily]]:
        """Return the option families of all modules and the common ones, for the catalogue."""
        own = {module.options.prefix: module.options for module in self._modules.values()}
        return [EctransOptions, UploadOptions, RetrievalOptions, *own.values()]

    def module(self, method: str) -> type[TransferModule[Any]]:
        """Return the module of a method; the name is compared without case.

        Raises ConfigError that names the nearest method.
        """
        name = method.lower().removeprefix("generic")
        found = self._modules.get(name) if method.lower().startswith("generic") else None
        if found is None:
            near = nearest(method, self.methods())
            raise ConfigError(f"no transfer method {method!r}", key="method", nearest=near)
        return found

    def access(self, host: Host, *, local_roots: tuple[str, ...] = (), node: str = "") -> Access:
        """Return how `host` is used; `node` is the name of this one, for `ectrans.hostSelector`.

        Raises RemoteConfig when its method is unknown or an option cannot be read.
        """
        try:
            module = self.module(host.method)
            given = texts(host.options)
            options = module.options.read(given)
            ectrans = EctransOptions.read(given)
            upload = UploadOptions.read(given)
            retrieval = RetrievalOptions.read(given)
            filters = Filters.make(host.filter_name, ectrans)
            target = replace(
                target_of(host, ectrans, local_roots=local_roots, node=node),
                listing=listing_style(given),
            )
        except InputError as error:
            raise RemoteConfig(f"host {host.name}: {error.message}", host=host.name) from error
        watch = Watch(
            stall=ectrans.stream_timeout, longest=ectrans.get_timeout, slow=retrieval.slow_rule()
        )
        ignore_check = isinstance(options, NamingOptions) and options.ignore_check
        return Access(
            module=module,
            target=target,
            options=options,
            ectrans=ectrans,
            upload=upload,
            retrieval=retrieval,
            delivery=delivery_rules(
                module.naming(options), ectrans, upload, ignore_check=ignore_check
            ),
            fetching=watch,
            filters=filters,
            compresses=bool(filters.compression),
            uploads=_shared(upload.host_rate),
            retrievals=_shared(retrieval.host_rate),
        )


def _shared(rate: int | None) -> tuple[Throttle, ...]:
    return (Throttle(rate),) if rate else ()


def _meter(rate: int | None, shared: tuple[Throttle, ...]) -> Meter:
    return Meter((Throttle(rate), *shared) if rate else shared)


def _sidecar_text(form: str, name: str, digest: str) -> str:
    return digest if form == "raw" else f"{digest}  {name.rpartition('/')[2]}\n"


def method_name(name: str) -> str:
    """Return the method name of a module name: `sftp` gives `genericSftp`."""
    return f"generic{name[:1].upper()}{name[1:]}"


def _loaded(point: Any) -> type[TransferModule[Any]]:
    try:
        module = point.load()
    except Exception as error:
        raise ConfigError(f"transfer module {point.name!r} cannot be loaded: {error}") from error
    if not (isinstance(module, type) and issubclass(module, TransferModule)):
        raise ConfigError(f"{point.value} is no transfer module")
    return module
