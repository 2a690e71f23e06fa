package fidelity

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/spillway-dev/spillway/e2e/lab/realnode"
)

const mountedNamespace = "mounted"

// kubeletDelay is how late a kubelet of the lab may be with a changed ConfigMap or Secret: it looks at a pod every SyncFrequency plus
// up to half of that (pod_workers.go, workerResyncIntervalJitterFactor), and at the queue of these every second (kubelet.go,
// syncLoop). It hears of the change itself at once, by a watch (configMapAndSecretChangeDetectionStrategy).
const kubeletDelay = realnode.SyncFrequency*3/2 + time.Second

// spillwayDelay is what Spillway may add to it.
const spillwayDelay = time.Second

// mounting is how many pods there are at each end, changes how often what they mount changes.
const mounting, changes = 4, 2

// mountedShape mounts one ConfigMap and one Secret, each plain and in a projected volume.
func mountedShape(number int) shape {
	return shape{name: fmt.Sprintf("mounts-%d", number), until: ready, spec: always(`args: [sleep], volumeMounts: [
    {name: c, mountPath: /c}, {name: s, mountPath: /s}, {name: p, mountPath: /p}]`, `volumes:
- {name: c, configMap: {name: settings}}
- {name: s, secret: {secretName: credentials}}
- {name: p, projected: {sources: [{configMap: {name: settings}}, {secret: {name: credentials}}]}}`)}
}

// mountedPod is one of them, and where its files are on this machine.
type mountedPod struct {
	name, end string
	files     []string
}

// mountedFiles are the files of a pod as the kubelet of that node keeps them; its containers see these very directories.
func (w *world) mountedFiles(node string, uid types.UID) ([]string, error) {
	pid, err := w.lab.RealNodes().PID(node)
	if err != nil {
		return nil, err
	}
	volumes := filepath.Join("/proc", strconv.Itoa(pid), "root/var/lib/kubelet/pods", string(uid), "volumes")
	return []string{
		filepath.Join(volumes, "kubernetes.io~configmap/c/COLOUR"), filepath.Join(volumes, "kubernetes.io~secret/s/USER"),
		filepath.Join(volumes, "kubernetes.io~projected/p/COLOUR"), filepath.Join(volumes, "kubernetes.io~projected/p/USER"),
	}, nil
}

// say whether all files of a pod have that content.
func (p *mountedPod) say(content string) (bool, error) {
	for _, name := range p.files {
		data, err := os.ReadFile(name)
		if err != nil {
			return false, err
		}
		if string(data) != content {
			return false, nil
		}
	}
	return true, nil
}

// twin is the pod of that name in the peer.
func (w *world) twin(ctx context.Context, name string) (*corev1.Pod, error) {
	found, err := w.away.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return nil, err
	}
	if len(found.Items) != 1 {
		return nil, fmt.Errorf("%d pods are named %s in the peer, not one", len(found.Items), name)
	}
	return &found.Items[0], nil
}

// mount makes the pods, and returns them with the namespace of the twins.
func (w *world) mount(t *testing.T) (pods []*mountedPod, remote string) {
	t.Helper()
	for number := range mounting {
		for end, node := range map[string]string{atHome: w.home, inPeer: "spillway-" + west} {
			pod, err := mountedShape(number).pod(end, node)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.kube.CoreV1().Pods(mountedNamespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			pods = append(pods, &mountedPod{name: pod.Name, end: end})
		}
	}
	for _, p := range pods {
		eventually(t, soon, func(ctx context.Context) error {
			pod, err := w.kube.CoreV1().Pods(mountedNamespace).Get(ctx, p.name, metav1.GetOptions{})
			if err == nil && !ready(pod) {
				err = fmt.Errorf("pod %s is not ready", p.name)
			}
			if err == nil && p.end == inPeer {
				pod, err = w.twin(ctx, p.name)
			}
			if err != nil {
				return err
			}
			if p.end == inPeer {
				remote = pod.Namespace
			}
			p.files, err = w.mountedFiles(pod.Spec.NodeName, pod.UID)
			return err
		})
	}
	return pods, remote
}

// TestMountedFiles changes a ConfigMap and a Secret, and looks when pods at home and in the peer have the change in their files.
func TestMountedFiles(t *testing.T) {
	t.Parallel() // it waits for most of its time
	w := theWorld(t)
	w.namespace(t, mountedNamespace)
	pods, remote := w.mount(t)
	took := map[string][]time.Duration{}
	for number := range changes {
		w.change(t, fmt.Sprintf("content-%d", number), remote, pods, took)
	}
	t.Logf("kubelet may take %s", kubeletDelay)
	for _, what := range []string{atHome, inPeer, "copy"} {
		all := slices.Sorted(slices.Values(took[what]))
		if len(all) == 0 {
			t.Errorf("%s: nothing was measured", what)
			continue
		}
		last := all[len(all)-1]
		t.Logf("%s: %d measured, median %s, longest %s", what, len(all), all[len(all)/2].Round(time.Millisecond), last.Round(time.Millisecond))
		if within := map[string]time.Duration{inPeer: kubeletDelay + spillwayDelay, "copy": spillwayDelay}[what]; within > 0 && last > within {
			t.Errorf("%s: a change took %s, want at most %s", what, last, within)
		}
	}
}

// change changes both, and notes in took how long the provider's copies and all files took.
func (w *world) change(t *testing.T, content, remote string, pods []*mountedPod, took map[string][]time.Duration) {
	t.Helper()
	core := w.kube.CoreV1()
	configMap := fmt.Sprintf(`{"data":{"COLOUR":%q}}`, content)
	secret := fmt.Sprintf(`{"stringData":{"USER":%q}}`, content)
	began := time.Now()
	if _, err := core.ConfigMaps(mountedNamespace).Patch(t.Context(), "settings", types.MergePatchType, []byte(configMap), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := core.Secrets(mountedNamespace).Patch(t.Context(), "credentials", types.MergePatchType, []byte(secret), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	waiting := slices.Clone(pods)
	copied := false
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 2*kubeletDelay, true, func(ctx context.Context) (bool, error) {
		var err error
		if !copied {
			if copied, err = w.copied(ctx, remote, content); copied {
				took["copy"] = append(took["copy"], time.Since(began))
			}
			if err != nil {
				return false, err
			}
		}
		waiting = slices.DeleteFunc(waiting, func(p *mountedPod) bool {
			has, e := p.say(content)
			if e != nil {
				err = e
			}
			if has {
				took[p.end] = append(took[p.end], time.Since(began))
			}
			return has
		})
		return copied && len(waiting) == 0, err
	})
	if err != nil {
		t.Errorf("%s: %d pods have not got it: %s: %v", content, len(waiting), podNames(waiting), err)
	}
}

// copied says whether both copies at the provider have the content.
func (w *world) copied(ctx context.Context, remote, content string) (bool, error) {
	c, err := w.away.CoreV1().ConfigMaps(remote).Get(ctx, "settings", metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	s, err := w.away.CoreV1().Secrets(remote).Get(ctx, "credentials", metav1.GetOptions{})
	return err == nil && c.Data["COLOUR"] == content && string(s.Data["USER"]) == content, err
}

func podNames(pods []*mountedPod) string {
	var all []string
	for _, p := range pods {
		all = append(all, p.name)
	}
	return strings.Join(all, " ")
}
