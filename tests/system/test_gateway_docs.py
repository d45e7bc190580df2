"""docs/openapi.yaml against the program that it describes."""
import json
import re
import subprocess

import jsonschema
import pytest
import yaml

from harness import BUILD, ROOT

pytestmark = pytest.mark.anyone

METHODS = {"get", "put", "post", "delete", "patch", "options", "head"}
GATEWAY = ROOT / "programs/gateway"


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())


def operations(document):
    """{(METHOD, path): (operation, its parameters with those of the path)}"""
    found = {}
    for path, item in document["paths"].items():
        for method in METHODS & set(item):
            parameters = [resolve(document, p) for p in item.get("parameters", []) + item[method].get("parameters", [])]
            found[method.upper(), path] = item[method], parameters
    return found


def resolve(document, node):
    while "$ref" in node:
        at = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            at = at[part]
        node = at
    return node


def routes_of_source():
    """{(METHOD, path): (whether it is open, its query fields)}, as routes.c has them."""
    text = (GATEWAY / "routes.c").read_text()
    macros = dict(re.findall(r'^#define (\w+) "([^"]*)"$', text, re.M))
    fields = {name: re.findall(r'"(\w+)"', listed) for name, listed in re.findall(r"\*const (\w+)\[\] = \{(.*?)\};", text)}
    found = {}
    for method, path, flags, of in re.findall(r'^    \{"(\w+)", ((?:\w+ )?"[^"]*"), VERB_\w+, ([\w |]+), (\w+),', text, re.M):
        macro, _, rest = path.rpartition(" ")
        found[method, macros.get(macro, "") + rest.strip('"')] = "ROUTE_OPEN" in flags, fields[of]
    return found


def problems_of_source():
    """[(code, status)]"""
    return [(code, int(status)) for code, status in re.findall(r'^    \{"(\w+)", (\d{3}), "', (GATEWAY / "problem.c").read_text(), re.M)]


def test_routes(document):
    told = subprocess.run([BUILD / "gateway", "--routes"], capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    served = {tuple(line.split(" ")) for line in told}
    assert len(served) == len(told) > 10
    described = set(operations(document))
    assert served == described, f"not described: {sorted(served - described)}; not there: {sorted(described - served)}"
    assert set(routes_of_source()) == served, "the tests below read routes.c wrongly"


def test_parameters_are_those_of_the_routes(document):
    routes = routes_of_source()
    for (method, path), (operation, parameters) in operations(document).items():
        open_, fields = routes[method, path]
        of = {where: {p["name"] for p in parameters if p["in"] == where} for where in ("path", "query", "header")}
        assert of["query"] == set(fields), (method, path)
        assert of["path"] == set(re.findall(r"\{(\w+)\}", path)), (method, path)
        assert all(p["required"] for p in parameters if p["in"] == "path"), (method, path)
        assert (operation.get("security") == []) == open_, (method, path)


def test_codes_are_those_of_the_program(document):
    code, problems = document["components"]["schemas"]["Code"], problems_of_source()
    assert len(problems) > 20
    assert sorted(code["enum"]) == sorted(c for c, _ in problems)
    listed = re.findall(r"^\| `(\w+)` \| (\d+) \|", code["description"], re.M)
    assert sorted((c, int(s)) for c, s in listed) == sorted(problems)


def test_statuses_of_responses_fit_their_codes(document):
    """What a response with a status names in backquotes as a code has that status, and every code is named somewhere."""
    statuses = dict(problems_of_source())
    for where, (operation, _) in operations(document).items():
        for status, response in operation["responses"].items():
            response = resolve(document, response)
            named = [c for c in re.findall(r"`(\w+)`", response["description"]) if c in statuses]
            assert all(str(statuses[c]) == status for c in named), (where, status, named)
            example = response.get("content", {}).get("application/problem+json", {}).get("example")
            if example and status != "default":
                assert (str(example["status"]), statuses[example["code"]]) == (status, int(status)), (where, example)


def test_every_response_has_a_request_id_and_an_example(document):
    for where, (operation, _) in operations(document).items():
        assert "default" in operation["responses"] and operation["summary"], where
        for status, response in operation["responses"].items():
            response = resolve(document, response)
            assert "X-Request-Id" in response["headers"], (where, status)
            has_body = status not in ("204", "304") and where[0] != "HEAD" and (where[1].endswith("/uploads"), status) != (True, "201")
            assert ("content" in response) == has_body or status == "default", (where, status)
            assert all("example" in content for content in response.get("content", {}).values()), (where, status)
            if status == "401":
                assert "WWW-Authenticate" in response["headers"], where
            if status in ("429", "503", "507") and "application/problem+json" in response.get("content", {}):
                assert "Retry-After" in response["headers"], (where, status)


def test_examples_fit_their_schemas(document):
    seen = []

    def look(node, path):
        if isinstance(node, dict):
            if "schema" in node and "example" in node:
                seen.append(path)
                jsonschema.Draft202012Validator({**node["schema"], "components": document["components"]}).validate(node["example"])
            for key, value in node.items():
                look(value, f"{path}/{key}")
        elif isinstance(node, list):
            for i, value in enumerate(node):
                look(value, f"{path}/{i}")

    look(document, "")
    assert len(seen) > 40


def test_references_lead_somewhere_and_everything_is_referred_to(document):
    text = json.dumps(document)
    wanted = set(re.findall(r'"\$ref": "#/components/(\w+/\w+)"', text))
    there = {f"{kind}/{name}" for kind, named in document["components"].items() for name in named if kind != "securitySchemes"}
    assert wanted == there - {"schemas/Published", "schemas/Event"}, wanted ^ there  # which OpenAPI cannot say of lines


def test_operations_have_names_of_their_own(document):
    names = [operation["operationId"] for operation, _ in operations(document).values()]
    assert len(names) == len(set(names))
    tags = {t["name"] for t in document["tags"]}
    assert all(set(operation["tags"]) <= tags for operation, _ in operations(document).values())
