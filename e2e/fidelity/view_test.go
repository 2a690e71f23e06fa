package fidelity

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// view is what a user sees of a pod, by the name of it; times, addresses and names that must differ are left out or replaced.
type view map[string]string

// viewOf is the view of a pod of home, wherever it runs.
func viewOf(pod *corev1.Pod) view {
	v := view{}
	s := &pod.Status
	v["phase"] = string(s.Phase)
	v["reason"] = s.Reason
	v["message"] = s.Message
	v["QoS class"] = string(s.QOSClass)
	v["generation"] = fmt.Sprint(pod.Generation)
	v["observed generation"] = fmt.Sprint(s.ObservedGeneration)
	v["start time"] = known(s.StartTime != nil)
	v["pod IP"] = known(s.PodIP != "")
	v["pod IPs"] = fmt.Sprint(len(s.PodIPs))
	v["host IP"] = known(s.HostIP != "")
	for _, c := range s.Conditions {
		v["condition "+string(c.Type)] = strings.TrimSpace(fmt.Sprintf("%s %s %s", c.Status, c.Reason, c.Message))
		v["condition "+string(c.Type)+" observed generation"] = fmt.Sprint(c.ObservedGeneration)
	}
	for _, c := range s.InitContainerStatuses {
		v.container("init "+c.Name, c)
	}
	for _, c := range s.ContainerStatuses {
		v.container(c.Name, c)
	}
	for _, c := range s.EphemeralContainerStatuses {
		v.container("ephemeral "+c.Name, c)
	}
	same := names(pod)
	for key, value := range v {
		v[key] = same.Replace(value)
	}
	return v
}

// warnings adds the Warnings that "kubectl describe" shows, whatever their number. A pod's UID in them is one of kubeletWords.
func (v view) warnings(pod *corev1.Pod, events []corev1.Event) {
	same, uid := names(pod), regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	for i := range events {
		if e := &events[i]; e.Type == corev1.EventTypeWarning && e.InvolvedObject.UID == pod.UID && !byLuck(e.Message) {
			v["warning "+e.Reason+": "+uid.ReplaceAllString(same.Replace(e.Message), "UID")] = "told"
		}
	}
}

// byLuck says whether a probe came before the program listened, or found a busy machine.
func byLuck(message string) bool {
	return strings.Contains(message, "connection refused") || strings.Contains(message, "timed out") || strings.Contains(message, "Timeout exceeded")
}

func (v view) warned(why string) bool {
	for key := range v {
		if strings.HasPrefix(key, "warning "+why+": ") {
			return true
		}
	}
	return false
}

// names replaces what two pods of one manifest cannot have in common.
func names(pod *corev1.Pod) *strings.Replacer {
	var pairs []string
	for _, p := range [][2]string{{string(pod.UID), "UID"}, {pod.Name, "NAME"}, {pod.Spec.NodeName, "NODE"}, {pod.Status.PodIP, "POD-IP"}, {pod.Status.HostIP, "HOST-IP"}} {
		if p[0] != "" {
			pairs = append(pairs, p[0], p[1])
		}
	}
	return strings.NewReplacer(pairs...)
}

func text(of any) string {
	data, err := json.Marshal(of)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func known(is bool) string {
	if is {
		return "known"
	}
	return "unknown"
}

func (v view) container(name string, c corev1.ContainerStatus) {
	v[name+": ready"] = fmt.Sprint(c.Ready)
	v[name+": restarts"] = fmt.Sprint(c.RestartCount)
	v[name+": image"] = c.Image
	v[name+": image ID"] = c.ImageID
	v[name+": container ID"] = known(c.ContainerID != "")
	v[name+": resources"] = text(c.Resources)
	v[name+": allocated"] = text(c.AllocatedResources)
	if c.User != nil && c.User.Linux != nil {
		v[name+": user"] = fmt.Sprint(c.User.Linux.UID, c.User.Linux.GID, c.User.Linux.SupplementalGroups)
	}
	v[name+": stop signal"] = fmt.Sprint(c.StopSignal != nil)
	for _, m := range c.VolumeMounts {
		if !strings.HasPrefix(m.Name, "kube-api-access-") {
			v[name+": mount "+m.MountPath] = fmt.Sprint(m.Name, m.ReadOnly)
		} else {
			v[name+": mount "+m.MountPath] = fmt.Sprint("kube-api-access", m.ReadOnly)
		}
	}
	if c.Started != nil {
		v[name+": started"] = fmt.Sprint(*c.Started)
	}
	v.state(name, c.State)
	v.state(name+": before", c.LastTerminationState)
}

func (v view) state(name string, s corev1.ContainerState) {
	switch {
	case s.Running != nil:
		v[name+": state"] = "running"
	case s.Waiting != nil:
		v[name+": state"] = "waiting " + s.Waiting.Reason
		v[name+": message"] = s.Waiting.Message
	case s.Terminated != nil:
		v[name+": state"] = fmt.Sprintf("ended %s code %d signal %d", s.Terminated.Reason, s.Terminated.ExitCode, s.Terminated.Signal)
		v.told(name, s.Terminated.Message)
	}
}

// told takes the termination message apart: the program's lines start with what they tell of.
func (v view) told(name, message string) {
	for i, line := range strings.Split(strings.TrimSpace(message), "\n") {
		what, value, ok := strings.Cut(line, ` "`)
		if !ok {
			what, value = fmt.Sprintf("line %d", i+1), line
		}
		v[name+" sees "+what] = strings.TrimSuffix(value, `"`)
	}
}

// differences are the keys that two views do not have in common, sorted.
func differences(a, b view) []string {
	var out []string
	for key, value := range a {
		if other, ok := b[key]; !ok || other != value {
			out = append(out, key)
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			out = append(out, key)
		}
	}
	return slices.Sorted(slices.Values(out))
}

// verdict compares two views: empty, or what differs though it should not, and the reverse. It notes in seen what differs by
// design.
func verdict(home, peer view, expected map[string]reason, seen map[reason]bool) string {
	var text strings.Builder
	found := differences(home, peer)
	for _, key := range found {
		why, ok := expected[key]
		if !ok {
			why, ok = everywhere(key, home[key], peer[key])
		}
		if ok {
			seen[why] = true
			continue
		}
		fmt.Fprintf(&text, "  %s:\n    home %q\n    peer %q\n", key, orNone(home, key), orNone(peer, key))
	}
	for _, key := range slices.Sorted(maps.Keys(expected)) {
		if !slices.Contains(found, key) {
			fmt.Fprintf(&text, "  %s: does not differ, though it is said to by design: both %q\n", key, orNone(home, key))
		}
	}
	return text.String()
}

// everywhere is the reason of what differs by design for pods of many shapes.
func everywhere(key, home, peer string) (reason, bool) {
	switch {
	case strings.HasSuffix(key, ": mount /var/run/secrets/kubernetes.io/serviceaccount") && peer == "":
		return serviceAccount, true
	case strings.HasSuffix(key, ": resources") || strings.HasSuffix(key, ": allocated"):
		return zeroRequests, withoutZero(peer) == withoutZero(home)
	case key == "condition PodReadyToStartContainers" && peer == "True":
		return sandboxAtEnd, true
	}
	return "", false
}

// withoutZero takes requests of nothing out of a container's resources.
func withoutZero(resources string) string {
	out := strings.NewReplacer(`"cpu":"0",`, "", `"memory":"0"`, "", `"cpu":"0"`, "").Replace(resources)
	out = strings.NewReplacer(",}", "}", `"requests":{}`, "").Replace(out)
	out = strings.NewReplacer(",}", "}", "null", "{}").Replace(out)
	if out == "" {
		return "{}"
	}
	return out
}

func orNone(v view, key string) string {
	if value, ok := v[key]; ok {
		return value
	}
	return "(none)"
}
