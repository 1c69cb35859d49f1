"""The bill of materials of a model as CycloneDX: the model, fullscale, every installed package. Home of cyclonedx."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from fullscale.bundle.card import Card
from fullscale.evidence.dependencies import NOT_STATED, ROOT, Dependency
from fullscale.extras import needs

MODEL = "model"


def bill_of_materials(card: Card, weights: Sequence[str], dependencies: Sequence[Dependency]) -> str:
    """Write the bill of materials of a model as CycloneDX 1.6 in JSON.

    It holds no time of its making and its serial number comes from its content, so that the same model on the same
    installation has the same bill.

    Args:
        card: of the model.
        weights: SHA-256 of each of its files of weights.
        dependencies: what is installed, fullscale included.

    Raises:
        UsageError: the extra `evidence` is not installed.
    """
    with needs("evidence", "folders of evidence"):
        from cyclonedx.model import HashAlgorithm, HashType
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot6

    algorithm = card.algorithm
    model = Component(
        name=algorithm.name,
        version=algorithm.version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=MODEL,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in weights],
    )
    libraries = {one.name: _component(one) for one in dependencies}
    bom = Bom(components=libraries.values())
    bom.metadata.component = model
    bom.register_dependency(model, [libraries[ROOT]])
    for one in dependencies:
        bom.register_dependency(libraries[one.name], [libraries[name] for name in one.requires])
    content: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del content["metadata"]["timestamp"], content["serialNumber"]
    serial = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True))
    return json.dumps({**content, "serialNumber": serial.urn}, indent=2) + "\n"


def _component(package: Dependency) -> Any:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    stated = [] if package.licence == NOT_STATED else [LicenseFactory().make_from_string(package.licence)]
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{package.name}=={package.version}",
        licenses=stated,
        purl=PackageURL("pypi", None, package.name, package.version),
    )
