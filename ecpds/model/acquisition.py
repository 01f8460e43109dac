"""Options of the `acquisition` family: what a directory line or its Host may say.

Templates, comparisons and expressions are texts here; `directory` compiles them line by line, since
a line may override its Host.

Spec: acquisition.md section 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Final, Literal

from ecpds.model.decode import opt
from ecpds.model.options import OptionFamily

DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquisitionOptions(OptionFamily):
    """Options of the `acquisition` family."""

    prefix: ClassVar[str] = "acquisition"
    scopes: ClassVar[frozenset[str]] = frozenset({"host"})

    action: Literal["queue", "delete"] = opt("queue", "Register what is selected, or delete it.")
    wildcard_filter: str = opt("", "Appended to the path that is listed.", key="wildcardFilter")
    regex_pattern: str = opt("", "Regex on file names near the source.", key="regexPattern")
    fileage: str = opt("", "Comparison with the age, as <6h, or an expression of $age, $size.")
    filesize: str = opt("", "Comparison with the size, as >10KB, or an expression.")
    only_valid_time: bool = opt(False, "Names without a time are passed over.", key="onlyValidTime")
    use_symlink: bool = opt(False, "Symbolic links are taken.", key="useSymlink")
    remove_parameters: bool = opt(
        False, "What stands behind ? is no part of the target.", key="removeParameters"
    )
    dateformat: str = opt("", "Pattern of $date; yyyyMMdd.")
    datedelta: str = opt("", "Length of time added to $date.")
    datesource: str = opt("", "Text from which $date is read; now.")
    datepattern: str = opt("", "Pattern of that text; that of dateformat.")
    timezone: str = opt("", "Zone of $date; that of the node.")
    system_key: str = opt("", "Style of FTP listings: UNIX, WINDOWS, VMS, MVS ...", key="systemKey")
    regex_format: str = opt(
        "", "Regex with named groups that replaces the listing parser.", key="regexFormat"
    )
    default_date_format: str = opt(
        "", "Pattern of listed dates with a year.", key="defaultDateFormat"
    )
    recent_date_format: str = opt(
        "", "Pattern of listed dates without a year.", key="recentDateFormat"
    )
    short_month_names: str = opt("", "Twelve names separated by |.", key="shortMonthNames")
    server_time_zone: str = opt("", "Zone of listed times; UTC.", key="serverTimeZoneId")
    server_language: str = opt("en", "Language of listed months.", key="serverLanguageCode")
    target: str = opt("$target", "Template of the target.")
    metadata: str = opt("", "Template of the metadata.")
    unique_by_target: bool = opt(
        False, "The source path does not distinguish files.", key="uniqueByTargetOnly"
    )
    target_as_unique_name: bool = opt(
        False, "The listed name distinguishes files.", key="useTargetAsUniqueName"
    )
    unique_by_time: bool = opt(
        False, "The time of a file distinguishes it.", key="uniqueByNameAndTime"
    )
    requeue_on_update: bool = opt(
        False, "Register a newer file of another size again.", key="requeueonupdate"
    )
    requeue_on_same_size: bool = opt(
        False, "Register a newer file again whatever its size.", key="requeueonsamesize"
    )
    requeue_on: str = opt(
        "", "Expression of $time1 $size1 (stored) $time2 $size2 (listed).", key="requeueon"
    )
    priority: int = opt(99, "0 first.", low=0, high=99)
    lifetime: timedelta = opt(2 * DAY, "How long transfers live.", low=0.001)
    standby: bool = opt(False, "Store only.")
    group_by: str = opt("", "Name of the group; made from destination and host.", key="groupby")
    transfer_group: str = opt("", "Storage group.", key="transferGroup")
    event: bool = opt(False, "Announce when available and when done.")
    no_retrieval: bool = opt(False, "Fetch content when it is delivered.", key="noretrieval")
    delete_original: bool = opt(
        False, "Delete at the source once stored and verified.", key="deleteoriginal"
    )
    payload_extension: str = opt(
        ".payload", "Ending of the file that holds a notification.", key="payloadExtension"
    )
    recursive: int = opt(0, "Levels of directories below the path.", low=0, high=64)
    exclude: str = opt("", "Regex of names that are passed over.")
    stable: timedelta | None = opt(
        None, "Take a file when size and time did not change for so long."
    )
    watch: bool = opt(False, "Look at once when a file appears in a local directory (genericFile).")
    requeue_on_failure: bool = opt(
        False, "Fetch again at once after a failure.", key="requeueOnFailure"
    )
    skip_size_check: str = opt(
        "", "Regex of sources whose size is not checked.", key="skipPostRetrievalSizeCheckPattern"
    )
    list_synchronous: bool = opt(
        True, "Take entries by hundreds; no: one by one as they are listed.", key="listSynchronous"
    )
    list_parallel: bool = opt(False, "Take entries while the listing goes on.", key="listParallel")
    list_max_waiting: int = opt(
        100, "Entries taken together with listParallel.", key="listMaxWaiting", low=1
    )
    list_max_threads: int = opt(
        100, "Such lots at a time; more than 8 count as 8.", key="listMaxThreads", low=1
    )
    maximum_duration: timedelta | None = opt(
        None, "Longest run, 0 unlimited; scheduler.acquisition_maximum.", key="maximumDuration",
        low=0,
    )  # fmt: skip
    interrupt_slow: bool = opt(True, "End a run that is longer.", key="interruptSlow")
    debug: bool = opt(False, "Detailed log.")


HOST_ONLY: Final = frozenset(
    {
        "watch",
        "requeueOnFailure",
        "skipPostRetrievalSizeCheckPattern",
        "listSynchronous",
        "listParallel",
        "listMaxWaiting",
        "listMaxThreads",
        "maximumDuration",
        "interruptSlow",
        "debug",
    }
)
"""Options that a line cannot set."""
