package kubelet

import (
	"encoding/json"
	"io"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// podStats are the pods of a peer's summary, by namespace and name at the peer. They do not change once read.
type podStats map[podName]*statsv1alpha1.PodStats

// readStats reads a Summary (JSON). What it says of a node is left out: it is none of ours.
func readStats(r io.Reader) (*podStats, error) {
	var summary struct {
		Pods []statsv1alpha1.PodStats `json:"pods"`
	}
	if err := json.NewDecoder(r).Decode(&summary); err != nil {
		return nil, err
	}
	stats := make(podStats, len(summary.Pods))
	for i := range summary.Pods {
		pod := &summary.Pods[i]
		name := podName{pod.PodRef.Namespace, pod.PodRef.Name}
		if other := stats[name]; other == nil || other.StartTime.Before(&pod.StartTime) { // else it was made anew on another machine
			stats[name] = pod
		}
	}
	return &stats, nil
}

// of gives what some pods use, under their names and UIDs at home, and what is to be summed of it.
func (s podStats) of(pods []homePod) ([]statsv1alpha1.PodStats, []podUse) {
	stats := make([]statsv1alpha1.PodStats, 0, len(pods)) // not nil: null is no list in JSON
	uses := make([]podUse, 0, len(pods))
	for _, pod := range pods {
		twin, ok := s[pod.twin]
		if !ok {
			continue
		}
		home := *twin
		home.PodRef = statsv1alpha1.PodReference{Name: pod.twin.name, Namespace: pod.namespace, UID: pod.uid}
		home.VolumeStats = volumesAtHome(twin.VolumeStats, pod.namespace)
		stats = append(stats, home)
		uses = append(uses, useOfStats(podName{pod.namespace, pod.twin.name}, twin))
	}
	return stats, uses
}

// volumesAtHome says whose claims the volumes are at home: a twin's claim has its namespace, and its name.
func volumesAtHome(volumes []statsv1alpha1.VolumeStats, namespace string) []statsv1alpha1.VolumeStats {
	volumes = slices.Clone(volumes)
	for i := range volumes {
		if claim := volumes[i].PVCRef; claim != nil {
			volumes[i].PVCRef = &statsv1alpha1.PVCReference{Name: claim.Name, Namespace: namespace}
		}
	}
	return volumes
}

// useOfStats takes the figures of the pod, or the sums of its containers where it has none.
func useOfStats(name podName, pod *statsv1alpha1.PodStats) podUse {
	u := podUse{pod: name}
	u.whole = pod.CPU != nil && pod.CPU.UsageCoreNanoSeconds != nil
	if u.whole {
		u.addCPU(pod.CPU)
	}
	memory := pod.Memory != nil && pod.Memory.WorkingSetBytes != nil
	if memory {
		u.addMemory(pod.Memory)
	}
	swap := pod.Swap != nil && pod.Swap.SwapUsageBytes != nil
	if swap {
		u.addSwap(pod.Swap)
	}
	for i := range pod.Containers {
		container := &pod.Containers[i]
		if !u.whole && container.CPU != nil {
			u.addCPU(container.CPU)
		}
		if !memory && container.Memory != nil {
			u.addMemory(container.Memory)
		}
		if !swap && container.Swap != nil {
			u.addSwap(container.Swap)
		}
	}
	return u
}

func (u *podUse) addCPU(stats *statsv1alpha1.CPUStats) {
	u.cpu += valueOf(stats.UsageCoreNanoSeconds)
	u.cores += valueOf(stats.UsageNanoCores)
	u.cpuKnown = u.cpuKnown || stats.UsageCoreNanoSeconds != nil
	u.at(stats.Time)
}

func (u *podUse) addMemory(stats *statsv1alpha1.MemoryStats) {
	u.memory.add(memoryUse{valueOf(stats.WorkingSetBytes), valueOf(stats.UsageBytes), valueOf(stats.RSSBytes)})
	u.at(stats.Time)
}

func (u *podUse) addSwap(stats *statsv1alpha1.SwapStats) {
	u.swap += valueOf(stats.SwapUsageBytes)
	u.swapKnown = u.swapKnown || stats.SwapUsageBytes != nil
}

func (u *podUse) at(t metav1.Time) {
	if !t.IsZero() {
		u.millis = max(u.millis, t.UnixMilli())
	}
}

func valueOf(figure *uint64) uint64 {
	if figure == nil {
		return 0
	}
	return min(*figure, maxFigure)
}

// nodeStats are the sums of a node. Filesystems are left out, for pods of several nodes share those of the peer's, and so are
// counters other than CPU, which would fall whenever a pod goes.
func nodeStats(name string, use nodeUse) statsv1alpha1.NodeStats {
	at := metav1.NewTime(time.UnixMilli(use.millis))
	stats := statsv1alpha1.NodeStats{
		NodeName: name, StartTime: metav1.NewTime(use.started),
		CPU: &statsv1alpha1.CPUStats{Time: at, UsageNanoCores: &use.cores, UsageCoreNanoSeconds: &use.cpu},
		Memory: &statsv1alpha1.MemoryStats{
			Time: at, UsageBytes: &use.memory.usage, WorkingSetBytes: &use.memory.workingSet, RSSBytes: &use.memory.rss,
		},
	}
	if use.swapKnown {
		stats.Swap = &statsv1alpha1.SwapStats{Time: at, SwapUsageBytes: &use.swap}
	}
	return stats
}
