package realnode_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/vishvananda/netlink"

	"github.com/spillway-dev/spillway/e2e/lab/realnode"
)

// machine is what belongs to the whole machine and other labs do not change either.
type machine struct {
	Sysctls map[string]string
}

// look reads the sysctls that components of nodes are known to change.
func look(t *testing.T) machine {
	t.Helper()
	m := machine{Sysctls: map[string]string{}}
	for _, name := range []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
		"kernel/keys/root_maxbytes", "kernel/hostname", "net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter",
		"net/ipv4/conf/all/route_localnet", "net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_tcp_timeout_established",
	} {
		value, err := os.ReadFile(filepath.Join("/proc/sys", name))
		if err != nil {
			continue
		}
		m.Sysctls[name] = strings.TrimSpace(string(value))
	}
	return m
}

// traces is where a lab's nodes would leave something behind.
type traces struct{ lab, dir, uplink string }

// gone fails the test for everything that is still there.
func (tr traces) gone(t *testing.T) {
	t.Helper()
	if link, err := netlink.LinkByName(tr.uplink); err == nil {
		t.Errorf("device %s is left", link.Attrs().Name)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(tr.dir)) {
		t.Errorf("mounts are left: %s", mounts)
	}
	if left, _ := filepath.Glob("/run/netns/*" + tr.lab + "*"); len(left) > 0 {
		t.Errorf("network namespaces are left: %s", left)
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), "-"+tr.lab+"-") {
			t.Errorf("cgroup %s is left", path)
		}
		return nil // others' groups come and go
	})
	if err != nil {
		t.Fatal(err)
	}
	tr.processesGone(t)
	limitRestored(t)
}

// limitRestored: the machine's limit is back, unless another lab still needs it raised.
func limitRestored(t *testing.T) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "spill-") {
			return
		}
	}
	if saved, err := os.ReadFile("/run/spillway-lab-inotify"); err == nil {
		t.Errorf("the number of inotify instances is not back at %s", saved)
	}
}

// processesGone looks for the mark; containers do not carry it, but are in the cgroups that must be gone. A network namespace can
// outlive its processes only in a mount, or in a file that this process forgot to close.
func (tr traces) processesGone(t *testing.T) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, proc := range procs {
		environ, _ := os.ReadFile(filepath.Join(proc, "environ"))
		if bytes.Contains(environ, []byte("SPILLWAY_LAB="+tr.lab+"\x00")) {
			cmdline, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
			t.Errorf("process %s is left: %q", proc, cmdline)
		}
	}
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if target, _ := os.Readlink(file); strings.HasPrefix(target, "net:") {
			t.Errorf("a file is open on the network namespace %s", target)
		}
	}
}

func appDaemonSet() *appsv1.DaemonSet {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	labels := map[string]string{"app": "app"}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "app"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "app", Image: realnode.AppImage, ImagePullPolicy: corev1.PullNever,
					Env: []corev1.EnvVar{field("POD", "metadata.name"), field("NODE", "spec.nodeName"), field("NAMESPACE", "metadata.namespace")},
					ReadinessProbe: &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
						HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)},
					}},
				}}},
			},
		},
	}
}

func appService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "app"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: map[string]string{"app": "app"},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
}
