"""Which instance, volume and price a number of vectors needs.

``python -m chroma_stack.size --vectors 2M --dimensions 1536`` answers for what is planned,
``--server URL`` for what a running Chroma holds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from chroma_stack import credential
from chroma_stack.credential import AUTH, WrongUse
from chroma_stack.size import answer, costs, live, model
from chroma_stack.size.answer import Growth, Offer, Question, offers, volume
from chroma_stack.size.costs import DEFAULT_THROUGHPUT
from chroma_stack.size.errors import Refused
from chroma_stack.size.instances import BASELINES, TYPES, InstanceType, at_prices
from chroma_stack.size.model import GIB, MIB
from chroma_stack.size.server import Server

CREDENTIAL = "CHROMA_CREDENTIAL"
"""The environment variable of the credential."""

_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_COUNT = re.compile(r"(\d+(?:\.\d+)?(?:e\d{1,2})?)([kmb]?)", re.IGNORECASE)
_GROWTH = re.compile(r"(\d+(?:\.\d+)?)%/(week|month|year)")
_MOST = 10**12
_LIVE_SOURCE = (
    "AWS price list for instances and volumes, for the rest "
    f"{costs.LIST['region']} on {costs.LIST['date']}"
)
_LIST = (
    f"list prices, of instances on {costs.INSTANCES_DATE} and of the rest on {costs.LIST['date']}"
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command line.

    :param arguments: those after the command's name; by default the process's own.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        sys.exit(_run(options))
    except WrongUse as error:
        parser.error(str(error))
    except Refused as error:
        sys.exit(f"Error: {error}")
    except BrokenPipeError:
        # Who reads has seen enough; Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chroma_stack.size",
        usage="%(prog)s (--vectors N --dimensions N | --server URL) [options]",
        description="Which EC2 instance and volume a Chroma server needs for so many vectors, "
        "what it costs a month, and the command that deploys it.",
        epilog="Numbers may be written as 2M, 500k, 1.5M or 1e6. Memory is predicted for Chroma "
        f"{model.RELEASE}; docs/sizing.md says from what. Exit codes: 0 done; 1 no instance type has "
        "enough memory, or a server or AWS did not answer; 2 wrong use.",
    )
    asked = parser.add_argument_group("what it is to hold")
    asked.add_argument("--vectors", metavar="N", help="records of all collections together")
    asked.add_argument("--dimensions", metavar="N", help="of each vector, such as 384 or 1536")
    asked.add_argument("--collections", metavar="N", help="of the same size each (default: 1)")
    asked.add_argument(
        "--document-bytes", metavar="N", help="mean length of a record's document (default: 0)"
    )
    asked.add_argument(
        "--metadata-bytes", metavar="N", help="mean length of a record's metadata (default: 0)"
    )
    asked.add_argument(
        "--sync-threshold",
        metavar="N",
        help=f"of the collections: after how many changes Chroma writes an index "
        f"(default: {model.SYNC_THRESHOLD})",
    )
    asked.add_argument(
        "--growth", metavar="P%/PERIOD", help="such as 10%%/month; also /week and /year"
    )
    running = parser.add_argument_group("or what a running server holds")
    running.add_argument("--server", metavar="URL", help="http[s]://HOST[:PORT] to ask instead")
    running.add_argument(
        "--credential-file",
        metavar="FILE",
        help=f"its token, or USER:PASSWORD; - reads it from standard input, and without this "
        f"option it is {CREDENTIAL} in the environment. One of a user with read access is enough",
    )
    running.add_argument(
        "--auth", choices=AUTH, default="token", help="how to send it (default: %(default)s)"
    )
    running.add_argument("--ca", metavar="FILE", help="certificates to trust, in PEM")
    running.add_argument(
        "--tenant",
        metavar="T",
        action="append",
        help="whose databases to count, repeatable (default: default_tenant); Chroma cannot list them",
    )
    running.add_argument(
        "--database",
        metavar="D",
        action="append",
        help="to count, repeatable (default: all; before 0.6, which cannot list them, "
        "default_database)",
    )
    prices = parser.add_argument_group("prices")
    prices.add_argument(
        "--region",
        metavar="R",
        help=f"where the server runs (default: {costs.LIST['region']}, the only one in the list of "
        f"{costs.LIST['date']})",
    )
    prices.add_argument(
        "--live",
        action="store_true",
        help="ask the AWS price list for instances and the volume; needs boto3, AWS credentials and "
        "the permission pricing:GetProducts",
    )
    shown = parser.add_argument_group("output")
    shown.add_argument(
        "--plot", metavar="FILE.png", help="draw vectors over memory, with the types as steps"
    )
    shown.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser


def _run(options: argparse.Namespace) -> int:
    growth = None if options.growth is None else _growth(options.growth)
    if options.plot and not options.plot.lower().endswith(".png"):
        raise WrongUse(
            f"--plot {options.plot} is refused: it is the name of a file, ending in .png"
        )
    region = options.region or str(costs.LIST["region"])
    if region != costs.LIST["region"] and not options.live:
        raise WrongUse(
            f"--region {region} is refused: the list of {costs.LIST['date']} has prices of "
            f"{costs.LIST['region']} only; --live asks the AWS price list for others"
        )
    question = _question(options)
    types, gib_month = _live(region) if options.live else (TYPES, costs.price("gp3"))
    offered = offers(question, types, gib_month, growth)
    if options.plot:
        _plot(options.plot, question, types)
    if options.json:
        result = _result(question, growth, offered)
        result["prices"] = {
            "region": region,
            "date": None if options.live else costs.LIST["date"],
            "instances_date": None if options.live else costs.INSTANCES_DATE,
            "source": _LIVE_SOURCE if options.live else "chroma_stack/prices.json",
        }
        print(json.dumps(result, indent=2))
    else:
        _print_needs(question)
        if offered:
            when = "AWS price list" if options.live else _LIST
            _print_offers(offered, f"{region}, {when}")
            _print_costs(_chosen(offered), live=options.live)
            if growth is not None:
                _print_growth(_chosen(offered), growth)
            _print_deployment(offered)
            if options.server:
                print(
                    "  A volume cannot shrink: leave volumeSize out where that of the server is larger."
                )
        else:
            _print_nothing(types)
        if options.plot:
            print(f"\nThe picture is {options.plot}.")
    return 0 if offered else 1


def _question(options: argparse.Namespace) -> Question:
    """What is to be held, as it was given or as the server says."""
    documents = _count("--document-bytes", options.document_bytes, least=0)
    metadata = _count("--metadata-bytes", options.metadata_bytes, least=0)
    threshold = _count("--sync-threshold", options.sync_threshold, least=2)
    if options.server is None:
        vectors = _count("--vectors", options.vectors)
        dimensions = _count("--dimensions", options.dimensions, most=65535)
        collections = _count("--collections", options.collections, most=10_000) or 1
        if vectors is None or dimensions is None:
            raise WrongUse("--vectors and --dimensions are needed, or --server")
        if collections > vectors:
            raise WrongUse(
                f"--collections {options.collections} is refused: there are only "
                f"{vectors:,} vectors"
            )
        held = model.divided(vectors, dimensions, collections)
    else:
        for name in ("vectors", "dimensions", "collections"):
            if (given := getattr(options, name)) is not None:
                raise WrongUse(f"--{name} {given} is refused beside --server, which says it")
        sent = credential.headers(
            "--", options.auth, credential.read("--", options.credential_file, CREDENTIAL)
        )
        server = Server(options.server, headers=sent, ca=options.ca)
        found = server.holding(options.tenant or ["default_tenant"], options.database or [])
        if not found.collections:
            raise Refused(f"{options.server} holds no vectors yet: give --vectors and --dimensions")
        held = found.collections
        documents = found.document_bytes if documents is None else documents
        metadata = found.metadata_bytes if metadata is None else metadata
        threshold = found.threshold if threshold is None else threshold
    return Question(
        collections=held,
        document_bytes=documents or 0,
        metadata_bytes=metadata or 0,
        threshold=threshold or model.SYNC_THRESHOLD,
    )


def _count(name: str, text: str | None, *, least: int = 1, most: int = _MOST) -> int | None:
    """A whole number such as ``500k``; ``None`` when the option is not given."""
    if text is None:
        return None
    match = _COUNT.fullmatch(text.strip().replace(",", "").replace("_", ""))
    value = float(match[1]) * _FACTORS[match[2].lower()] if match else math.nan
    if not least <= value <= most or value != round(value):
        raise WrongUse(
            f"{name} {text} is refused: it is a whole number from {least:,} to {most:,}, which may "
            "be written as 2M, 500k or 1e6"
        )
    return round(value)


def _growth(text: str) -> Growth:
    match = _GROWTH.fullmatch(text.strip())
    if not match or not 0 < float(match[1]) <= 1000:
        raise WrongUse(
            f"--growth {text} is refused: it is more than 0 and at most 1000 % a week, month or "
            "year, such as 10%/month"
        )
    return Growth(rate=float(match[1]) / 100, period=match[2])


def _live(region: str) -> tuple[Sequence[InstanceType], float]:
    """The types with their prices in a region, and that of a GiB of the volume for a month."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ModuleNotFoundError:
        raise Refused("--live needs boto3, which the package's extra 'size' installs") from None
    try:
        client = boto3.client("pricing", region_name=live.ENDPOINT)
        return at_prices(live.instances(client, region)), live.gib_month(client, region)
    except (BotoCoreError, ClientError) as error:
        raise Refused(f"--live: {' '.join(str(error).split())}") from None


def _plot(file: str, question: Question, types: Sequence[InstanceType]) -> None:
    try:
        from chroma_stack.size import picture
    except ModuleNotFoundError:
        raise Refused(
            "--plot needs matplotlib, which the package's extra 'size' installs"
        ) from None
    try:
        picture.draw(Path(file), question, types)
    except OSError as error:
        raise Refused(f"--plot {file} cannot be written: {error.strerror}") from None


def _result(question: Question, growth: Growth | None, offered: Sequence[Offer]) -> dict[str, Any]:
    """The answer as JSON. Memory and disk in bytes, money in dollars."""
    disk, made = question.disk(), volume(question)
    return {
        "vectors": question.vectors,
        "collections": len(question.collections),
        "dimensions": sorted({it.dimensions for it in question.collections}),
        "document_bytes": question.document_bytes,
        "metadata_bytes": question.metadata_bytes,
        "sync_threshold": question.threshold,
        "growth": None
        if growth is None
        else {"percent": round(growth.rate * 100, 4), "period": growth.period},
        "memory": {
            "settled": question.settled(),
            "writing": question.writing(),
            "instance_gib_by_chromas_rule": round(
                model.gib_by_chromas_rule(question.collections), 2
            ),
        },
        "disk": {
            "index": disk.index,
            "database": disk.database,
            "log": disk.log,
            "used": disk.used(),
        },
        "volume": {
            "gib": made.gib,
            "throughput": made.throughput,
            "seconds_to_read_the_indexes": round(made.reading),
        },
        "instances": [
            {
                "type": it.instance.name,
                "vcpu": it.instance.vcpu,
                "gib": it.instance.gib,
                "architecture": it.instance.architecture,
                "memory_for_chroma": round(it.instance.available),
                "baseline": it.instance.baseline,
                "month": round(it.instance.month, 2),
                "surplus_month": round(it.instance.surplus(), 2),
                "snapshot_month": round(costs.price("snapshot") * it.used, 2),
                "everything_month": round(costs.total(it.rows()), 2),
                "enough_for": None
                if it.end is None
                else {
                    "periods": round(it.end.periods, 1),
                    "vectors": it.end.question.vectors,
                    "then": it.end.then and it.end.then.name,
                },
                "settings": it.settings(),
                "deploy": it.deploy(),
            }
            for it in offered
        ],
    }


def _print_needs(question: Question) -> None:
    dimensions = " and ".join(
        f"{it:,}" for it in sorted({i.dimensions for i in question.collections})
    )
    count = len(question.collections)
    print(
        f"{question.vectors:,} vectors of {dimensions} dimensions in {count:,} "
        f"collection{'s' if count > 1 else ''}"
        + (
            f", each with {question.document_bytes:,} bytes of document and "
            f"{question.metadata_bytes:,} of metadata"
            if question.document_bytes or question.metadata_bytes
            else ""
        )
    )
    rule = model.gib_by_chromas_rule(question.collections)
    print(f"\nMemory of Chroma {model.RELEASE}")
    print(f"  {_size(question.settled()):>10}  after a restart, when all was queried")
    print(f"  {_size(question.writing()):>10}  while records are added")
    print(f"  {rule:>6,.1f} GiB  for the instance, by the rule of Chroma's makers")
    made, disk = volume(question), question.disk()
    print(f"\nVolume of {made.gib:,} GiB, gp3")
    print(
        f"  {_size(3 * disk.index):>10}  indexes: in use, their checkpoints, for moments the next ones"
    )
    print(f"  {_size(disk.database):>10}  ids, documents with their full-text index, metadata")
    print(f"  {_size(disk.log):>10}  Chroma's log, at most")
    print(f"  {_size(model.SPARE):>10}  copies of the image, logs")
    print(f"  {_size(made.gib * GIB - disk.used()):>10}  free")
    speed = f"  After a restart the indexes are read in {max(1, math.ceil(made.reading)):,} s, at"
    if made.throughput > DEFAULT_THROUGHPUT:
        print(
            f"{speed} {made.throughput} MiB a second; the 125 free of charge would take longer\n"
            f"  than {answer.READING // 60} minutes."
        )
    else:
        print(f"{speed} the 125 MiB and 3,000 operations a second that are free of charge.")


def _print_nothing(types: Sequence[InstanceType]) -> None:
    largest = max(types, key=lambda it: it.available)
    print(
        f"\nNo instance is enough: {largest.name}, the largest of the list, has "
        f"{_size(largest.available)} for Chroma,\nand a gp3 volume at most {model.LARGEST_VOLUME:,} GiB. "
        "What remains is several servers, each with some of the\ncollections "
        "(examples/several_servers), or Chroma Cloud (docs/moving.md)."
    )


def _print_offers(offered: Sequence[Offer], prices: str) -> None:
    print(f"\nThe cheapest instances with enough memory ({prices})")
    print(
        f"  {'type':<13}{'':<10}{'vCPU':>4}{'GiB':>6}{'for Chroma':>12}   {'CPU':<16}"
        f"{'$ a month':>10}{'everything':>12}"
    )
    for offer in offered:
        it = offer.instance
        cpu = "fixed" if it.baseline is None else f"burstable, {it.baseline:.0%}"
        architecture = "Graviton" if it.architecture == "arm64" else it.architecture
        print(
            f"  {it.name:<13}{architecture:<10}{it.vcpu:>4}{it.gib:>6}{_size(it.available):>12}   "
            f"{cpu:<16}{it.month:>10,.2f}{costs.total(offer.rows()):>12,.2f}"
        )
    print(
        "  `for Chroma` is what it may use before the proxy refuses writes. `everything` has one "
        "snapshot of\n  all data in it, and nothing that is paid by use."
    )
    burstable = [it.instance for it in offered if it.instance.baseline is not None]
    if burstable:
        most = " or ".join(f"${it.surplus():,.2f} ({it.name})" for it in burstable)
        print(
            "  A burstable type has that part of each vCPU all the time, and more while it has credits. "
            "Beyond\n  those it goes on for money (`unlimited`, the default): "
            f"up to {most}\n  a month, if it computes all the time. {BASELINES}"
        )


def _print_costs(offer: Offer, *, live: bool) -> None:
    rows = offer.rows()
    print(f"\nWith {offer.instance.name}, dollars a month")
    for row in rows:
        amount = "by use" if row.month is None else f"{row.month:,.2f}"
        print(f"  {amount:>10}  {row.what.replace('`', '')}: {row.price}")
    print(f"  {costs.total(rows):>10,.2f}  together")
    if live:
        print(
            "  Instance and volumes by the AWS price list, the others as in "
            f"{costs.LIST['region']} on {costs.LIST['date']}."
        )


def _print_growth(offer: Offer, growth: Growth) -> None:
    assert offer.end is not None
    periods = math.floor(offer.end.periods)
    time = f"{periods:,} {growth.period}{'s' if periods > 1 else ''}"
    then = (
        f"then comes {offer.end.then.name}"
        if offer.end.then
        else "and there is no larger one in the list"
    )
    print(f"\nGrowing by {growth.rate * 100:g} % a {growth.period}")
    print(
        f"  {offer.instance.name} is enough for {time if periods else f'less than a {growth.period}'}, "
        f"to {offer.end.question.vectors:,} vectors, {then}."
    )
    print(
        f"  The volume grows by itself meanwhile, to {offer.volume.largest:,} GiB (maxVolumeSize)."
    )


def _print_deployment(offered: Sequence[Offer]) -> None:
    chosen = _chosen(offered)
    print(f"\nDeploy it\n  {chosen.deploy()}")
    for it in offered:
        if it is not chosen:
            print(f"  {it.deploy()}")
    kept = " ".join(f"{key}={value}" for key, value in chosen.settings().items())
    print(f'  make set ARGS="{kept}" keeps the settings for later commands.')


def _chosen(offered: Sequence[Offer]) -> Offer:
    """The cheapest x86-64 one, since Graviton was never run; else the cheapest."""
    return next((it for it in offered if it.instance.architecture == "x86-64"), offered[0])


def _size(count: float) -> str:
    if count < GIB:
        return f"{count / MIB:,.0f} MiB"
    return f"{count / GIB:,.1f} GiB"
