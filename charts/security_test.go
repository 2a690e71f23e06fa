package charts

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// workload is what Deployments and DaemonSets have alike.
type workload struct {
	Spec struct {
		Template struct {
			metav1.ObjectMeta `json:"metadata"`
			Spec              corev1.PodSpec
		}
	}
}

func podOf(t *testing.T, all []Manifest, kind string) (meta *metav1.ObjectMeta, spec *corev1.PodSpec) {
	t.Helper()
	for _, m := range all {
		if m.Kind != kind {
			continue
		}
		var w workload
		if err := yaml.Unmarshal([]byte(m.Text), &w); err != nil {
			t.Fatal(err)
		}
		return &w.Spec.Template.ObjectMeta, &w.Spec.Template.Spec
	}
	return nil, nil
}

// violations are the reasons for which pods of a kind may not be in a namespace of that level.
func violations(t *testing.T, all []Manifest, kind string, level api.Level) []string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	meta, spec := podOf(t, all, kind)
	if spec == nil {
		return nil
	}
	var out []string
	for _, r := range evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, meta, spec) {
		if !r.Allowed {
			out = append(out, r.ForbiddenReason+": "+r.ForbiddenDetail)
		}
	}
	slices.Sort(out)
	return out
}

// TestPods_ControllerIsRestricted: with every documented value set.
func TestPods_ControllerIsRestricted(t *testing.T) {
	for name, values := range examples(t) {
		all, err := Render(values, RenderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range violations(t, all, "Deployment", api.LevelRestricted) {
			t.Errorf("%s: the controller breaks the level restricted: %s", name, v)
		}
	}
}

// TestPods_AgentsNeedWhatIsListed: a privilege that is not in this list, each with the reason in templates/node.yaml, is one too many.
func TestPods_AgentsNeedWhatIsListed(t *testing.T) {
	all, err := Render(nil, RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`host namespaces: hostNetwork=true`,
		`hostPort: container "spillwayd" uses hostPort 9640`,
		`restricted volume types: volumes "state", "sysctls", "tun" use restricted volume type "hostPath"`,
		`runAsNonRoot != true: pod must not set securityContext.runAsNonRoot=false`,
		`runAsUser=0: pod must not set runAsUser=0`,
		`unrestricted capabilities: container "spillwayd" must not include "NET_ADMIN" in securityContext.capabilities.add`,
	}
	if diff := cmp.Diff(want, violations(t, all, "DaemonSet", api.LevelRestricted)); diff != "" {
		t.Errorf("what agents have beyond the level restricted (-want +got):\n%s", diff)
	}
	_, spec := podOf(t, all, "DaemonSet")
	mounted := map[string]string{}
	for _, m := range spec.Containers[0].VolumeMounts {
		for _, v := range spec.Volumes {
			if v.Name == m.Name && v.HostPath != nil {
				mounted[v.HostPath.Path] = m.MountPath
			}
		}
	}
	paths := map[string]string{"/var/lib/spillway": "/var/lib/spillway", "/proc/sys/net": "/host/proc/sys/net", "/dev/net/tun": "/dev/net/tun"}
	if diff := cmp.Diff(paths, mounted); diff != "" {
		t.Errorf("what agents see of their node (-want +got):\n%s", diff)
	}
}

// TestPods_CleaningNeedsNoMoreThanItCleans: the step before the removal sees the folder that it deletes, and no device.
func TestPods_CleaningNeedsNoMoreThanItCleans(t *testing.T) {
	values := map[string]any{"node": map[string]any{"clean": true, "stateDir": "/opt/spillway/state", "extraArgs": []any{"--userspace"}}}
	all, err := Render(values, RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, spec := podOf(t, all, "DaemonSet")
	c := spec.Containers[0]
	args := []string{"node", "clean", "--stay", "--state-file=/host/state/state/node.json", "--http-port=9640"}
	if diff := cmp.Diff(args, c.Args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	if len(spec.Volumes) != 1 || spec.Volumes[0].HostPath.Path != "/opt/spillway" || len(c.VolumeMounts) != 1 {
		t.Errorf("it sees %v at %v", spec.Volumes, c.VolumeMounts)
	}
}

func TestRights_NoneIsForEverything(t *testing.T) {
	all, err := Render(nil, RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.Kind != "Role" && m.Kind != "ClusterRole" {
			continue
		}
		var role rbacv1.ClusterRole
		if err := yaml.Unmarshal([]byte(m.Text), &role); err != nil {
			t.Fatal(err)
		}
		for i, rule := range role.Rules {
			for _, words := range [][]string{rule.Verbs, rule.Resources, rule.APIGroups, rule.NonResourceURLs} {
				if slices.Contains(words, "*") {
					t.Errorf("%s %s: rule %d has a *", m.Kind, m.Name, i)
				}
			}
			for _, verb := range []string{"escalate", "impersonate"} {
				if slices.Contains(rule.Verbs, verb) {
					t.Errorf("%s %s: rule %d lets it %s", m.Kind, m.Name, i, verb)
				}
			}
		}
	}
}

// TestRights_AreForTwoAccounts: a right of somebody else would be one that nobody looks for here.
func TestRights_AreForTwoAccounts(t *testing.T) {
	all, err := Render(nil, RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	accounts := map[string]bool{}
	for _, m := range all {
		if m.Kind != "RoleBinding" && m.Kind != "ClusterRoleBinding" {
			continue
		}
		var binding rbacv1.ClusterRoleBinding
		if err := yaml.Unmarshal([]byte(m.Text), &binding); err != nil {
			t.Fatal(err)
		}
		for _, s := range binding.Subjects {
			accounts[s.Kind+" "+s.Namespace+"/"+s.Name] = true
		}
	}
	want := []string{"ServiceAccount spillway-node/spillway-node", "ServiceAccount spillway-system/spillwayd"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(accounts))); diff != "" {
		t.Errorf("who has rights (-want +got):\n%s", diff)
	}
}
