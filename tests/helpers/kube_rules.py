"""Rules for the files of k8s/ that no schema can say: over several fields, over several objects, and what webhooks and
controllers would refuse or silently change. `broken(objects)` lists what is broken, each with its rule's name."""

import re
from collections.abc import Callable, Iterator
from typing import Any

Object = dict[str, Any]
Found = Iterator[str]
POD_SUFFIX = 6  # "-" and five letters behind the name of each pod of a Job
RULES: dict[str, Callable[[list[Object]], Found]] = {}


def rule(function: Callable[[list[Object]], Found]) -> Callable[[list[Object]], Found]:
    RULES[function.__name__] = function
    return function


def broken(objects: list[Object]) -> list[str]:
    return [f"{name}: {words}" for name, check in RULES.items() for words in check(objects)]


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def name_of(found: Object) -> str:
    return f"{found['kind']} {found['metadata']['name']}"


def set_specs(objects: list[Object]) -> Found:
    """(where, spec of a JobSet), in a JobSet or in a TrainingRuntime."""
    for each in of_kind(objects, "JobSet"):
        yield name_of(each), each["spec"]
    for each in of_kind(objects, "TrainingRuntime"):
        yield name_of(each), each["spec"]["template"]["spec"]


def job_specs(objects: list[Object]) -> Found:
    """(where, spec of a Job, whether it restarts as a whole)."""
    for each in of_kind(objects, "Job"):
        whole = "clipmill/max-restarts" in each["metadata"].get("annotations", {})
        yield name_of(each), each["spec"], whole
    for where, spec in set_specs(objects):
        for group in spec["replicatedJobs"]:
            yield f"{where} {group['name']}", group["template"]["spec"], True


def pods(objects: list[Object]) -> Found:
    """(where, pod template)."""
    for where, spec, _ in job_specs(objects):
        yield where, spec["template"]
    for each in of_kind(objects, "RayJob"):
        cluster = each["spec"]["rayClusterSpec"]
        yield f"{name_of(each)} head", cluster["headGroupSpec"]["template"]
        for group in cluster["workerGroupSpecs"]:
            yield f"{name_of(each)} {group['groupName']}", group["template"]


def containers(objects: list[Object]) -> Found:
    for where, template in pods(objects):
        for container in template["spec"]["containers"]:
            yield f"{where} {container['name']}", template, container


def variables(container: Object) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in container.get("env", [])}


def amount(quantity: str) -> float:
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(quantity))
    assert match, quantity
    units = {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(match[1]) * units[match[2]]


@rule
def a_pod_failure_policy_needs_pods_that_never_restart(objects):
    for where, spec, _ in job_specs(objects):
        if "podFailurePolicy" in spec and spec["template"]["spec"].get("restartPolicy") != "Never":
            yield f"{where}: restartPolicy is not Never, which the JobSet webhook would set to OnFailure"


@rule
def pod_failure_rules_name_a_container_of_the_pod(objects):
    for where, spec, _ in job_specs(objects):
        names = {each["name"] for each in spec["template"]["spec"]["containers"]}
        for each in spec["podFailurePolicy"]["rules"]:
            named = each.get("onExitCodes", {}).get("containerName")
            if named is not None and named not in names:
                yield f"{where}: {named} is none of {names}"
            if ("onExitCodes" in each) == ("onPodConditions" in each):
                yield f"{where}: a rule with both or neither of onExitCodes, onPodConditions"


@rule
def exit_codes_are_acted_on_as_agreed(objects):
    """78 ends it; of a group 71 and 75 and a disruption fail the Job, so that the whole group restarts."""
    for where, spec, whole in job_specs(objects):
        rules = spec["podFailurePolicy"]["rules"]
        codes = {
            code: each["action"] for each in reversed(rules) for code in each.get("onExitCodes", {}).get("values", ())
        }
        disrupted = next((each["action"] for each in rules if "onPodConditions" in each), None)
        wanted = {78: "FailJob", 71: "FailJob", 75: "FailJob"} if whole else {78: "FailJob"}
        if not wanted.items() <= codes.items():
            yield f"{where}: exit codes are {codes}, should have {wanted}"
        if disrupted != ("FailJob" if whole else "Ignore"):
            yield f"{where}: a disruption is {disrupted}"
        if whole and (spec.get("backoffLimit") != 0 or spec.get("podReplacementPolicy") != "Failed"):
            yield f"{where}: a pod of a group would come back alone"


@rule
def a_group_has_as_many_pods_as_nodes_are_told_to_each(objects):
    for where, spec, _ in job_specs(objects):
        if spec.get("completionMode") != "Indexed":
            continue
        for container in spec["template"]["spec"]["containers"]:
            told = variables(container).get("CLIPMILL_NODES")
            numbers = {spec["parallelism"], spec["completions"], int(told) if told else None}
            if len(numbers) != 1:
                yield f"{where}: parallelism, completions, CLIPMILL_NODES are {numbers}"
    for each in of_kind(objects, "TrainingRuntime"):
        nodes = {each["spec"]["mlPolicy"]["numNodes"]}
        nodes |= {job["spec"]["trainer"]["numNodes"] for job in of_kind(objects, "TrainJob")}
        nodes |= {
            group["template"]["spec"]["completions"]
            for _, spec in set_specs([each])
            for group in spec["replicatedJobs"]
        }
        if len(nodes) != 1:
            yield f"{name_of(each)}: numNodes and completions are {nodes}"


@rule
def a_set_restarts_by_cause(objects):
    for where, spec in set_specs(objects):
        policy = spec["failurePolicy"]
        actions = [each["action"] for each in policy["rules"]]
        if actions != ["FailJobSet", "RestartJobSetAndIgnoreMaxRestarts"]:
            yield f"{where}: rules are {actions}: what cannot work has to come first"
        message = "Container node for pod ns/p-0 failed with exit code 78 matching FailJob rule at index 0"
        if not any(re.search(each, message) for each in policy["rules"][0].get("onJobFailureMessagePatterns", [])):
            yield f"{where}: the first rule does not match a Job's message for exit code 78"
        if any(each.get("onJobFailureReasons") != ["PodFailurePolicy"] for each in policy["rules"]):
            yield f"{where}: a rule takes crashes, too"
        if policy.get("restartStrategy") != "BlockingRecreate" or not policy.get("maxRestarts"):
            yield f"{where}: generations would overlap, or crashes are not limited"
        if spec.get("network", {}).get("publishNotReadyAddresses") is False:
            yield f"{where}: ranks could not find each other before they are ready"
        if spec["replicatedJobs"][0].get("dependsOn"):
            yield f"{where}: the first group cannot depend on another"


@rule
def names_are_short_enough_for_those_made_of_them(objects):
    for each in objects:
        name = each["metadata"]["name"]
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name):
            yield f"{name_of(each)}: no DNS label"
        longest = f"{name}-live" if each["metadata"].get("labels", {}).get("clipmill/role") == "template" else name
        if each["kind"] == "RayJob" and len(longest) > 47:
            yield f"{name_of(each)}: KubeRay takes 47 characters, {longest} has {len(longest)}"
        if each["kind"] in ("JobSet", "TrainJob"):
            longest += "-node-0-999"
        if len(longest) + POD_SUFFIX > 63:
            yield f"{name_of(each)}: a pod {longest}-xxxxx is longer than 63 characters"


@rule
def templates_never_run(objects):
    for each in objects:
        labels = each["metadata"].get("labels", {})
        if labels.get("clipmill/role") != "template":
            continue
        if each["spec"].get("suspend") is not True:
            yield f"{name_of(each)}: is not suspended"
        if any(key.startswith("kueue.x-k8s.io/") for key in labels):
            yield f"{name_of(each)}: would take quota"
        if each["kind"] == "JobSet" and each["spec"].get("managedBy") != "clipmill/template":
            yield f"{name_of(each)}: the JobSet controller would make Jobs of it"
        if not labels.get("clipmill/stage") or not labels.get("clipmill/run"):
            yield f"{name_of(each)}: the pipeline Job would not find it"


@rule
def what_is_named_is_there(objects):
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    for where, template in pods(objects):
        spec = template["spec"]
        wanted = [
            ("PersistentVolumeClaim", v["persistentVolumeClaim"]["claimName"])
            for v in spec["volumes"]
            if "persistentVolumeClaim" in v
        ]
        wanted += [("ConfigMap", volume["configMap"]["name"]) for volume in spec["volumes"] if "configMap" in volume]
        wanted += [("ServiceAccount", spec["serviceAccountName"])] if "serviceAccountName" in spec else []
        wanted += [("Service", spec["subdomain"])] if "subdomain" in spec else []
        for container in spec["containers"]:
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    wanted.append(("ConfigMap", source["configMapRef"]["name"]))
                elif not source["secretRef"].get("optional"):
                    yield f"{where}: the Secret {source['secretRef']['name']} has to be there"
        for each in wanted:
            if each not in there:
                yield f"{where}: no {' '.join(each)}"
    for each in of_kind(objects, "TrainJob"):
        if ("TrainingRuntime", each["spec"]["runtimeRef"]["name"]) not in there:
            yield f"{name_of(each)}: no such runtime"


@rule
def volumes_and_mounts_belong_together(objects):
    for where, template in pods(objects):
        names = {each["name"] for each in template["spec"]["volumes"]}
        mounted = {each["name"] for one in template["spec"]["containers"] for each in one["volumeMounts"]}
        if names != mounted:
            yield f"{where}: volumes {names}, mounts {mounted}"
        if "emptyDir" in str(template["spec"]["volumes"]):
            for each in template["spec"]["volumes"]:
                if each.get("emptyDir", {}).get("medium") == "Memory" and "sizeLimit" not in each["emptyDir"]:
                    yield f"{where}: {each['name']} could fill the memory"


@rule
def there_is_time_to_save(objects):
    for where, template, container in containers(objects):
        told = variables(container).get("CLIPMILL_GRACE_S")
        grace = template["spec"].get("terminationGracePeriodSeconds", 30)
        if told is not None and not 0 < float(told) <= grace - 30:
            yield f"{where}: CLIPMILL_GRACE_S is {told}, the grace period {grace}"
        if container.get("args", [""])[-1] in ("reinforce", "train", "eval") and told is None:
            yield f"{where}: the wrapper is not told of its grace period"
        if container.get("lifecycle"):
            yield f"{where}: a preStop hook takes from the grace period"


@rule
def pods_can_do_no_harm(objects):
    for where, template in pods(objects):
        spec = template["spec"]
        if not spec.get("securityContext", {}).get("runAsNonRoot") or not spec["securityContext"].get("runAsUser"):
            yield f"{where}: may run as root"
        if spec.get("hostNetwork") or spec.get("hostPID") or any("hostPath" in each for each in spec["volumes"]):
            yield f"{where}: reaches into its node"
        leads = template.get("metadata", {}).get("labels", {}).get("clipmill/role") == "pipeline"
        if spec.get("automountServiceAccountToken") is not leads:
            yield f"{where}: token of a service account"
        for container in spec["containers"]:
            context = container.get("securityContext", {})
            if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities", {}).get("drop") != [
                "ALL"
            ]:
                yield f"{where}: {container['name']} has privileges"


@rule
def the_role_covers_the_stages_and_no_more(objects):
    (role,) = of_kind(objects, "Role")
    granted = {
        (group, each): set(one["verbs"])
        for one in role["rules"]
        for group in one["apiGroups"]
        for each in one["resources"]
    }
    needed = {
        (each["apiVersion"].rpartition("/")[0], f"{each['kind'].lower()}s")
        for each in objects if each["metadata"].get("labels", {}).get("clipmill/role") == "template"
    }  # fmt: skip
    for key in needed | {("batch", "jobs")}:
        if granted.get(key) != {"get", "list", "watch", "create", "delete"}:
            yield f"{'/'.join(key)}: {granted.get(key)}"
    for key, verbs in granted.items():
        if key not in needed | {("batch", "jobs")} and not (key[0] == "" and verbs <= {"get", "list"}):
            yield f"{'/'.join(key)}: {verbs} is not needed"
        if "secrets" in key or "*" in key or "*" in verbs:
            yield f"{'/'.join(key)}: too much"


@rule
def resources_are_what_is_asked_for(objects):
    for where, template, container in containers(objects):
        limits, requests = container["resources"].get("limits", {}), container["resources"].get("requests", {})
        if "memory" not in limits or "memory" not in requests:
            yield f"{where}: no memory"
            continue
        for key in limits:
            if ("/" in key or where.startswith("RayJob")) and limits[key] != requests.get(key):
                yield f"{where}: {key}: limit {limits[key]}, request {requests.get(key)}"
        for volume in template["spec"]["volumes"]:
            size = volume.get("emptyDir", {})
            if size.get("medium") == "Memory" and amount(size.get("sizeLimit", "0")) > 0.5 * amount(limits["memory"]):
                yield f"{where}: {volume['name']} may take more than half of the memory limit"


@rule
def every_container_has_the_image_of_the_overlay(objects):
    images = {container["image"] for _, _, container in containers(objects)}
    if len(images) != 1 or not all(re.search(r":[\w.-]+$|@sha256:", image) for image in images):
        yield f"images are {images}"


@rule
def variables_are_known_where_they_are_used(objects):
    maps = {each["metadata"]["name"]: set(each.get("data", {})) for each in of_kind(objects, "ConfigMap")}
    for where, _, container in containers(objects):
        shared = set()
        for source in container.get("envFrom", []):
            shared |= maps.get(source.get("configMapRef", {}).get("name"), set())
        known: set[str] = set()
        for each in container.get("env", []):
            for name in re.findall(r"\$\((\w+)\)", each.get("value") or ""):
                if name not in known:  # Kubernetes looks only at entries before it in the same list
                    yield f"{where}: {each['name']} uses {name}, which no entry before it sets"
            known.add(each["name"])
        for word in [*container.get("command", []), *container.get("args", [])]:
            for name in re.findall(r"\$\((\w+)\)", word):
                if name not in known | shared:
                    yield f"{where}: {word}: {name} is not set"


@rule
def curation_by_ray_starts_over_by_itself(objects):
    for each in of_kind(objects, "RayJob"):
        spec, head = each["spec"], each["spec"]["rayClusterSpec"]["headGroupSpec"]
        if spec.get("submissionMode") == "SidecarMode" and head["template"]["spec"].get("restartPolicy") != "Never":
            yield f"{name_of(each)}: the sidecar mode wants a head that never restarts"
        if not spec.get("shutdownAfterJobFinishes"):
            yield f"{name_of(each)}: the cluster would stay; Kueue and suspend need shutdownAfterJobFinishes"
        if head["rayStartParams"].get("num-cpus") != "0":
            yield f"{name_of(each)}: work would go to the head"
        if not spec.get("backoffLimit") or not spec.get("activeDeadlineSeconds"):
            yield f"{name_of(each)}: no second cluster, or no end"
        if len(spec["rayClusterSpec"]["workerGroupSpecs"]) > 17:
            yield f"{name_of(each)}: more groups than Kueue takes"


@rule
def plain_pods_are_found_by_name(objects):
    for each in of_kind(objects, "Service"):
        spec, selected = each["spec"], []
        for where, template in pods(objects):
            if spec["selector"].items() <= template.get("metadata", {}).get("labels", {}).items():
                selected.append(where)
                if template["spec"].get("subdomain") != each["metadata"]["name"]:
                    yield f"{where}: subdomain is not {each['metadata']['name']}"
        if not selected or spec.get("clusterIP") != "None" or not spec.get("publishNotReadyAddresses"):
            yield f"{name_of(each)}: gives no pod a name before it is ready"
