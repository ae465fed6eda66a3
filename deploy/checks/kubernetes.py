"""Manifests: resolves the kustomizations as kubectl would (the part of the language they use), validates every object strictly
against the schemas of Kubernetes and against schemas of our own for what others define, and checks what no schema can see: that
selectors meet labels, that ports, keys, claims and accounts that are named exist, that pods fit the namespace's standard.

With `--print DIRECTORY` it also writes what was resolved there, a file an overlay. Needs PyYAML, kubernetes-validate and jsonschema. What it does not do: ask a cluster. Nothing here has been applied."""

import copy
import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
VERSION = "1.33"
CLUSTER_WIDE = {"Namespace", "StorageClass", "PriorityClass", "ClusterRole", "ClusterRoleBinding"}
UNDERSTOOD = {"apiVersion", "kind", "namespace", "labels", "resources", "images", "patches"}
SCHEMAS = {("monitoring.coreos.com/v1", "ServiceMonitor"), ("monitoring.coreos.com/v1", "PrometheusRule"),
           ("argoproj.io/v1alpha1", "Application")}

wrong = []


def fault(where, what):
    wrong.append(f"{where}: {what}")


def load(file):
    return [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document is not None]


def name(thing):
    return f"{thing['kind']}/{thing['metadata']['name']}"


def patched(thing, operations, where):
    """JSON patch (RFC 6902): add, replace and remove."""
    for operation in operations:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        parent = thing
        try:
            for part in parts[:-1]:
                parent = parent[int(part)] if isinstance(parent, list) else parent[part]
            last = parts[-1]
            kind = operation["op"]
            if isinstance(parent, list):
                if kind == "add":
                    parent.insert(len(parent) if last == "-" else int(last), operation["value"])
                elif kind == "replace":
                    parent[int(last)] = operation["value"]
                else:
                    del parent[int(last)]
            elif kind == "replace":
                if last not in parent:
                    raise KeyError(last)
                parent[last] = operation["value"]
            elif kind == "add":
                parent[last] = operation["value"]
            else:
                del parent[last]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            fault(where, f"the patch of {name(thing)} finds no {operation['path']} ({error})")


def pod_of(thing):
    kind = thing["kind"]
    if kind in ("StatefulSet", "Deployment", "Job"):
        return thing["spec"]["template"]
    if kind == "CronJob":
        return thing["spec"]["jobTemplate"]["spec"]["template"]
    return None


def build(directory):
    """The objects of a kustomization, as kubectl would send them."""
    file = directory / "kustomization.yaml"
    where = str(file.relative_to(ROOT))
    if not file.exists():
        fault(where, "is not there")
        return []
    said = load(file)[0]
    for key in said.keys() - UNDERSTOOD:
        fault(where, f"`{key}` is not understood by this check")
    objects, listed = [], set()
    for entry in said["resources"]:
        path = (directory / entry).resolve()
        if path.is_dir():
            objects += build(path)
        elif path.exists():
            listed.add(path.name)
            objects += load(path)
        else:
            fault(where, f"names {entry}, which is not there")
    for path in directory.glob("*.yaml"):
        if path.name not in listed and path.name != "kustomization.yaml" and not path.name.endswith(".example.yaml"):
            fault(where, f"does not list {path.name}")
    objects = copy.deepcopy(objects)
    for thing in objects:
        if said.get("namespace") and thing["kind"] not in CLUSTER_WIDE:
            thing["metadata"]["namespace"] = said["namespace"]
        for pairs in said.get("labels", []):
            thing["metadata"].setdefault("labels", {}).update(pairs["pairs"])
    used = set()
    for thing in objects:
        pod = pod_of(thing)
        for container in pod["spec"]["containers"] if pod else []:
            for image in said.get("images", []):
                if container["image"].split(":")[0] == image["name"]:
                    used.add(image["name"])
                    container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
    for image in said.get("images", []):
        if image["name"] not in used:
            fault(where, f"gives a tag to the image {image['name']}, which nobody uses")
    for patch in said.get("patches", []):
        target = patch["target"]
        met = [thing for thing in objects if thing["kind"] == target["kind"] and thing["metadata"]["name"] == target["name"]]
        if not met:
            fault(where, f"patches {target['kind']}/{target['name']}, which is not there")
        for thing in met:
            patched(thing, yaml.safe_load(patch["patch"]), where)
    return objects


def validate(thing, where):
    key = (thing["apiVersion"], thing["kind"])
    if key in SCHEMAS:
        schema = json.loads((ROOT / f"deploy/checks/schemas/{thing['kind'].lower()}.json").read_text(encoding="utf-8"))
        for error in jsonschema.Draft202012Validator(schema).iter_errors(thing):
            fault(where, f"{name(thing)} at {error.json_path}: {error.message}")
        return
    try:
        kubernetes_validate.validate(thing, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        fault(where, f"{name(thing)} at {'.'.join(map(str, error.path))}: {error.message}")
    except Exception as error:  # a kind that the schemas do not know
        fault(where, f"{name(thing)}: {error}")


def related(objects, where, secret_keys):
    """What no schema sees."""
    def of(kind):
        return {thing["metadata"]["name"]: thing for thing in objects if thing["kind"] == kind}

    seen = set()
    for thing in objects:
        if name(thing) in seen:
            fault(where, f"{name(thing)} is there twice")
        seen.add(name(thing))
    namespaces = set(of("Namespace"))
    pods = {name(thing): pod_of(thing) for thing in objects if pod_of(thing)}
    for thing in objects:
        inside = thing["metadata"].get("namespace")
        if thing["kind"] not in CLUSTER_WIDE and inside not in namespaces:
            fault(where, f"{name(thing)} is in the namespace {inside}, which is not made here")

    def selected(selector):
        wanted = selector.get("matchLabels", selector)
        return [pod for pod in pods.values() if wanted.items() <= pod["metadata"].get("labels", {}).items()]

    def port_names(pod):
        return {port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", [])}

    services = of("Service")
    for thing in services.values():
        met = selected(thing["spec"]["selector"])
        if len(met) != 1:
            fault(where, f"{name(thing)} selects {len(met)} kinds of pods, not one")
        for port in thing["spec"]["ports"]:
            if met and isinstance(port["targetPort"], str) and port["targetPort"] not in port_names(met[0]):
                fault(where, f"{name(thing)} leads to the port {port['targetPort']}, which no container has")
    for thing in of("StatefulSet").values():
        if not thing["spec"]["selector"]["matchLabels"].items() <= thing["spec"]["template"]["metadata"]["labels"].items():
            fault(where, f"{name(thing)} does not select its own pods")
        if services.get(thing["spec"]["serviceName"], {"spec": {}})["spec"].get("clusterIP") != "None":
            fault(where, f"{name(thing)} has no headless service {thing['spec']['serviceName']}")
    for thing in of("PodDisruptionBudget").values():
        if not selected(thing["spec"]["selector"]):
            fault(where, f"{name(thing)} protects nobody")
    for thing in of("NetworkPolicy").values():
        chosen = thing["spec"]["podSelector"]
        if chosen and not selected(chosen):
            fault(where, f"{name(thing)} applies to nobody")
        for rule in thing["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if isinstance(port["port"], str) and not any(port["port"] in port_names(pod) for pod in selected(chosen)):
                    fault(where, f"{name(thing)} opens the port {port['port']}, which no container has")
    for thing in of("Ingress").values():
        for rule in thing["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                to = path["backend"]["service"]
                ports = {port["name"] for port in services.get(to["name"], {"spec": {"ports": []}})["spec"]["ports"]}
                if to["port"].get("name") not in ports:
                    fault(where, f"{name(thing)} leads to {to['name']}:{to['port']}, which is not there")
        hosts = {rule["host"] for rule in thing["spec"]["rules"]}
        if hosts != {host for entry in thing["spec"]["tls"] for host in entry["hosts"]}:
            fault(where, f"{name(thing)} serves hosts without a certificate")
    for thing in of("RoleBinding").values():
        if thing["roleRef"]["name"] not in of("Role"):
            fault(where, f"{name(thing)} binds a role that is not there")
    monitors = of("ServiceMonitor")
    for thing in monitors.values():
        met = [service for service in services.values()
               if thing["spec"]["selector"]["matchLabels"].items() <= service["metadata"].get("labels", {}).items()]
        names = {port["name"] for service in met for port in service["spec"]["ports"]}
        if len(met) != 1 or any(endpoint["port"] not in names for endpoint in thing["spec"]["endpoints"]):
            fault(where, f"{name(thing)} watches {len(met)} services, or a port that they do not have")
    for owner, pod in pods.items():
        spec = pod["spec"]
        if spec["serviceAccountName"] not in of("ServiceAccount"):
            fault(where, f"{owner} is nobody: no account {spec['serviceAccountName']}")
        if spec.get("automountServiceAccountToken") is not False:
            fault(where, f"{owner} carries a token to the cluster that it does not need")
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        templates = {template["metadata"]["name"] for template in of("StatefulSet").get(owner.split("/")[1], {"spec": {}})["spec"]
                     .get("volumeClaimTemplates", [])}
        for volume in volumes.values():
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in of("PersistentVolumeClaim"):
                fault(where, f"{owner} wants the claim {claim}, which is not there")
            for item in volume.get("secret", {}).get("items", []):
                if item["key"] not in secret_keys:
                    fault(where, f"{owner} wants the secret's key {item['key']}, which secret.example.yaml does not have")
        if not spec["securityContext"].get("runAsNonRoot") or spec["securityContext"]["seccompProfile"]["type"] != "RuntimeDefault":
            fault(where, f"{owner} does not fit the namespace's standard `restricted`")
        for container in spec["containers"]:
            if "@" not in container["image"] and container["image"].count(":") != 1:
                fault(where, f"{owner} has an image without a tag: {container['image']}")
            context = container["securityContext"]
            if context["allowPrivilegeEscalation"] or not context["readOnlyRootFilesystem"] or context["capabilities"]["drop"] != ["ALL"]:
                fault(where, f"{owner} does not fit the namespace's standard `restricted`")
            if "memory" not in container["resources"]["limits"] or "cpu" not in container["resources"]["requests"]:
                fault(where, f"{owner} does not say what it needs")
            for mount in container["volumeMounts"]:
                if mount["name"] not in volumes and mount["name"] not in templates:
                    fault(where, f"{owner} mounts {mount['name']}, which is no volume of it")
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference and reference["key"] not in secret_keys:
                    fault(where, f"{owner} wants the secret's key {reference['key']}, which secret.example.yaml does not have")
            for source in container.get("envFrom", []):
                if source["configMapRef"]["name"] not in of("ConfigMap"):
                    fault(where, f"{owner} reads a configuration that is not there")
    quota = next(iter(of("ResourceQuota").values()))["spec"]["hard"]
    claims = len(of("PersistentVolumeClaim")) + sum(
        thing["spec"]["replicas"] * len(thing["spec"].get("volumeClaimTemplates", [])) for thing in of("StatefulSet").values())
    if claims > int(quota["persistentvolumeclaims"]):
        fault(where, "the quota does not allow the claims")


def main():
    secret = load(KUBERNETES / "base/secret.example.yaml")
    for thing in secret:
        validate(thing, "base/secret.example.yaml")
    count = 0
    overlays = sorted(path for path in (KUBERNETES / "overlays").iterdir() if path.is_dir())
    for directory in overlays:
        objects = build(directory)
        where = f"overlays/{directory.name}"
        for thing in objects:
            validate(thing, where)
        related(objects, where, set(secret[0]["stringData"]))
        count += len(objects)
        if sys.argv[1:2] == ["--print"]:
            file = pathlib.Path(sys.argv[2]) / f"{directory.name}.yaml"
            file.write_text(yaml.safe_dump_all(objects, sort_keys=False), encoding="utf-8")
    for file in sorted((ROOT / "deploy/argocd").glob("*.yaml")):
        for thing in load(file):
            validate(thing, f"argocd/{file.name}")
            count += 1
            if not (ROOT / thing["spec"]["source"]["path"] / "kustomization.yaml").exists():
                fault(f"argocd/{file.name}", f"points at {thing['spec']['source']['path']}, which is not there")
    for sentence in sorted(set(wrong)):
        print(sentence, file=sys.stderr)
    if len(overlays) < 2 or count < 30:
        print(f"only {count} objects in {len(overlays)} overlays were found", file=sys.stderr)
        return 1
    print(f"{count} objects in {len(overlays)} overlays and Argo CD, schemas of Kubernetes {VERSION}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
