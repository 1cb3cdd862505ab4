"""Asks the AWS price list for what differs most between regions: instances, and gp3 volumes.

Not run against AWS: the filters are those by which Karpenter asks it
(https://github.com/aws/karpenter-provider-aws/blob/main/pkg/providers/pricing/pricing.go), and the
answer is as AWS documents it:
https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from chroma_stack.size.errors import Refused

ENDPOINT = "us-east-1"
"""The price list of all regions is served in a few:
https://docs.aws.amazon.com/general/latest/gr/billing.html"""

_INSTANCES = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "productFamily": "Compute Instance",
}
_VOLUMES = {"productFamily": "Storage", "volumeApiName": "gp3"}


def instances(client: Any, region: str) -> dict[str, float]:
    """Dollars an hour, on demand, by the type's name.

    :param client: boto3's for ``pricing``.
    :param region: such as ``eu-central-1``.
    :raises Refused: when the list has none for this region.
    """
    found: dict[str, float] = {}
    for product in _products(client, {**_INSTANCES, "regionCode": region}):
        for price in _prices(product, "Hrs"):
            found[product["product"]["attributes"]["instanceType"]] = price
    if not found:
        raise Refused(f"--region {region}: the AWS price list has no instances for it")
    return found


def gib_month(client: Any, region: str) -> float:
    """Dollars a month for a GiB of a gp3 volume.

    :param client: boto3's for ``pricing``.
    :param region: such as ``eu-central-1``.
    :raises Refused: when the list has no or several prices.
    """
    products = _products(client, {**_VOLUMES, "regionCode": region})
    found = {price for product in products for price in _prices(product, "GB-Mo")}
    if len(found) != 1:
        raise Refused(f"--region {region}: the AWS price list has {len(found)} prices for gp3")
    return found.pop()


def _products(client: Any, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("get_products").paginate(
        ServiceCode="AmazonEC2",
        Filters=[
            {"Type": "TERM_MATCH", "Field": field, "Value": value}
            for field, value in filters.items()
        ],
    )
    for page in pages:
        for product in page["PriceList"]:
            yield json.loads(product)


def _prices(product: Mapping[str, Any], unit: str) -> Iterator[float]:
    """Those of a product that are not zero, by the unit."""
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            price = float(dimension["pricePerUnit"].get("USD", 0))
            if dimension["unit"] == unit and price:
                yield price
