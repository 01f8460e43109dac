"""What pages and API work with; built once by the monitor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from ecpds.engine.core import Core
from ecpds.engine.operations.accesskeys import AccessKeyOperations
from ecpds.engine.operations.accounts import AccountOperations
from ecpds.engine.operations.apiusers import ApiUserOperations
from ecpds.engine.operations.destinations import DestinationOperations
from ecpds.engine.operations.destmeta import MetadataOperations
from ecpds.engine.operations.files import FileOperations
from ecpds.engine.operations.groups import GroupOperations
from ecpds.engine.operations.hosts import HostOperations
from ecpds.engine.operations.incidents import IncidentOperations
from ecpds.engine.operations.jobs import JobOperations
from ecpds.engine.operations.node import NodeOperations
from ecpds.engine.operations.notices import NoticeOperations
from ecpds.engine.operations.products import ProductOperations
from ecpds.engine.operations.retrievals import RetrievalOperations
from ecpds.engine.operations.roles import RoleOperations
from ecpds.engine.operations.site import SiteOperations
from ecpds.engine.operations.subscribers import SubscriberOperations
from ecpds.engine.operations.transfers import TransferOperations
from ecpds.engine.operations.uploads import UploadOperations
from ecpds.engine.operations.webhooks import WebhookOperations
from ecpds.engine.operations.wis2 import Wis2Operations
from ecpds.engine.supervisor import Engine
from ecpds.engine.webhooks import Webhooks
from ecpds.vfs.brokerfiles import BrokerFiles
from ecpds.vfs.gate import PortalGate
from ecpds.web.eventstream import EventStreams, owner_may_know
from ecpds.web.figures import Figures
from ecpds.web.live import Live
from ecpds.web.pulse import Pulse
from ecpds.web.render import Renderer
from ecpds.web.rights import Caller
from ecpds.web.routes import Route
from ecpds.web.statics import Statics

Again = Callable[[Caller], Awaitable[Caller | None]]  # who asks as it is now
Ready = Callable[[], dict[str, dict[str, object]]]


@dataclass(slots=True, kw_only=True)
class Services:
    """All operations, and the parts of the web layer that handlers share."""

    engine: Engine
    gate: PortalGate
    transfers: TransferOperations
    destinations: DestinationOperations
    hosts: HostOperations
    accounts: AccountOperations
    files: FileOperations
    site: SiteOperations
    live: Live
    renderer: Renderer
    statics: Statics
    endpoints: Callable[[], Mapping[str, str]]
    ready: Ready
    again: Again
    routes: tuple[Route, ...] = field(default=())
    reload: Callable[[], str] = field(default=lambda: "nothing can be reloaded here")
    uploads: UploadOperations = field(init=False)
    groups: GroupOperations = field(init=False)
    jobs: JobOperations = field(init=False)
    products: ProductOperations = field(init=False)
    retrievals: RetrievalOperations = field(init=False)
    api_users: ApiUserOperations = field(init=False)
    metadata: MetadataOperations = field(init=False)
    subscribers: SubscriberOperations = field(init=False)
    access_keys: AccessKeyOperations = field(init=False)
    notices: NoticeOperations = field(init=False)
    broker_files: BrokerFiles = field(init=False)
    wis2: Wis2Operations = field(init=False)
    incidents: IncidentOperations = field(init=False)
    roles: RoleOperations = field(init=False)
    node: NodeOperations = field(init=False)
    pulse: Pulse = field(init=False)
    figures: Figures = field(init=False)
    streams: EventStreams = field(init=False)
    hooks: Webhooks = field(init=False)
    webhooks: WebhookOperations = field(init=False)

    def __post_init__(self) -> None:
        self.uploads = UploadOperations(self.engine, self.files)
        self.groups = GroupOperations(self.engine)
        self.jobs = JobOperations(self.engine, self.transfers)
        self.products = ProductOperations(self.engine)
        self.retrievals = RetrievalOperations(self.engine)
        self.api_users = ApiUserOperations(self.core)
        self.metadata = MetadataOperations(self.core)
        self.subscribers = SubscriberOperations(self.core)
        self.access_keys = AccessKeyOperations(self.core)
        self.notices = NoticeOperations(self.engine)
        self.broker_files = BrokerFiles(self.engine.core)
        self.wis2 = Wis2Operations(self.engine)
        self.incidents = IncidentOperations(self.engine)
        self.node = NodeOperations(self.core, self.reload)
        self.roles = RoleOperations(self.core)
        self.figures = Figures(self.engine, self.destinations, self.notices)
        self.streams = EventStreams()
        self.hooks = Webhooks(self.core, owner_may_know)
        self.webhooks = WebhookOperations(self.core, self.hooks.poke)
        self.pulse = Pulse(self.core.metrics, self.core.clock)

    @property
    def core(self) -> Core:
        """Return the parts of the engine."""
        return self.engine.core
