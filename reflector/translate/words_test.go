package translate

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestAtHome(t *testing.T) {
	for name, row := range map[string]struct{ words, want string }{
		"a kubelet's pod":             {"web_app-8f3c1d2e(6b1c-9)", "web_app(6b1c-9)"},
		"an object":                   {`secret "app-8f3c1d2e/web" not found`, `secret "app/web" not found`},
		"twice":                       {"app-8f3c1d2e/web and app-8f3c1d2e/db", "app/web and app/db"},
		"nothing else":                {"app-8f3c1d2e", "app"},
		"a name":                      {"web.app-8f3c1d2e.svc", "web.app.svc"},
		"part of a longer name":       {"app-8f3c1d2e-2/web", "app-8f3c1d2e-2/web"},
		"the end of a longer name":    {"my-app-8f3c1d2e/web", "my-app-8f3c1d2e/web"},
		"next to itself":              {"app-8f3c1d2eapp-8f3c1d2e", "app-8f3c1d2eapp-8f3c1d2e"},
		"a longer name and the name":  {"app-8f3c1d2e2 app-8f3c1d2e", "app-8f3c1d2e2 app"},
		"other words":                 {"no space left on device", "no space left on device"},
		"nothing":                     {"", ""},
		"words in another language":   {"é app-8f3c1d2e é", "é app é"},
		"the name in capital letters": {"APP-8F3C1D2E", "APP-8F3C1D2E"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := AtHome(row.words, "app-8f3c1d2e", "app"); got != row.want {
				t.Errorf("at home: %q, want %q", got, row.want)
			}
		})
	}
	if got := AtHome("app/web", "app", "app"); got != "app/web" {
		t.Errorf("a namespace of the same name: %q", got)
	}
	if got := AtHome("words", "", "app"); got != "words" {
		t.Errorf("a pod without a twin: %q", got)
	}
}

// TestPodStatus_Words: a kubelet names the pod as home does, in a status that shares nothing it changes with the twin.
func TestPodStatus_Words(t *testing.T) {
	local := bound()
	twin := running(local)
	there := func(s string) string { return "pod=web_" + s + "(twin-1)" }
	ended := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, Message: message}}
	}
	twin.Status.Message = there(twin.Namespace)
	twin.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
		Reason: "CrashLoopBackOff", Message: there(twin.Namespace),
	}}
	twin.Status.ContainerStatuses[0].LastTerminationState = ended("StartError", there(twin.Namespace))
	twin.Status.ContainerStatuses[2].LastTerminationState = ended("Error", there(twin.Namespace))
	twin.Status.Conditions[1].Message = there(twin.Namespace)
	before := twin.DeepCopy()

	got := PodStatus(local, twin, testEnv())
	if diff := gocmp.Diff(before, twin); diff != "" {
		t.Errorf("the twin was changed:\n%s", diff)
	}
	said := []string{
		got.Message, got.ContainerStatuses[0].State.Waiting.Message, got.ContainerStatuses[0].LastTerminationState.Terminated.Message,
		condition(got.Conditions, corev1.PodReady).Message, got.ContainerStatuses[1].LastTerminationState.Terminated.Message,
	}
	home := there(local.Namespace)
	if diff := gocmp.Diff([]string{home, home, home, home, there(twin.Namespace)}, said); diff != "" {
		t.Errorf("words, the last of which are the program's own (-want +got):\n%s", diff)
	}
}
