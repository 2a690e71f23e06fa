package fidelity

import corev1 "k8s.io/api/core/v1"

// identities: names, DNS and security.
func identities() []shape {
	const hosts = `args: [see, host, "file:/etc/hostname", "file:/etc/hosts", "proc:/proc/sys/kernel/hostname"]`
	const resolver = `args: [see, "file:/etc/resolv.conf"]`
	const who = `args: [see, id, "status:CapEff", "status:CapBnd", "status:NoNewPrivs", "status:Seccomp", "write:/tmp/x", "write:/x"]`
	return []shape{
		{name: "names", spec: once(hosts)},
		{name: "hostname", spec: once(hosts, "hostname: db")},
		{name: "hostname-and-subdomain", spec: once(hosts, "hostname: db\nsubdomain: heads"),
			differs: map[string]reason{"app sees file:/etc/hosts": hostDomain}},
		{name: "hostname-as-fqdn", spec: once(hosts, "hostname: db\nsubdomain: heads\nsetHostnameAsFQDN: true"),
			differs: map[string]reason{"app sees host": hostDomain, "app sees file:/etc/hostname": hostDomain, "app sees file:/etc/hosts": hostDomain,
				"app sees proc:/proc/sys/kernel/hostname": hostDomain}},
		{name: "host-aliases", spec: once(hosts, `hostAliases: [{ip: 192.0.2.1, hostnames: [one.example, two.example]}]`)},
		{name: "dns-cluster-first", spec: see("file:/etc/resolv.conf"), differs: map[string]reason{"app sees file:/etc/resolv.conf": resolverFile}},
		{name: "dns-answers", spec: see("finds:kubernetes.default", "finds:kubernetes.default.svc", "finds:kubernetes.default.svc.cluster.local",
			"finds:nobody", "finds:nobody.default.svc.cluster.local", "finds:nobody.invalid", "finds:front", "env:FRONT_SERVICE_PORT")},
		{name: "dns-of-a-service-by-namespace", spec: see("finds:front.fidelity", "finds:front.fidelity.svc", "finds:front.fidelity.svc.cluster.local"),
			skip: "twins do not search the domains of home yet"},
		{name: "dns-default", spec: once(resolver, "dnsPolicy: Default")},
		{name: "dns-none", spec: once(resolver, "dnsPolicy: None\ndnsConfig: {nameservers: [192.0.2.53], searches: [example.org], options: [{name: ndots, value: \"3\"}]}")},
		{name: "run-as-user", spec: once(who, "securityContext: {runAsUser: 1000, runAsGroup: 2000, supplementalGroups: [3000]}")},
		{name: "run-as-non-root-refused", until: waiting("CreateContainerConfigError"), spec: once(who, "securityContext: {runAsNonRoot: true}"),
			differs: map[string]reason{"app: message": kubeletWords}},
		{name: "fs-group", spec: once(`args: [see, id, "write:/data/x", "tree:/data"], volumeMounts: [{name: data, mountPath: /data}]`, "securityContext: {runAsUser: 1000, fsGroup: 4000}", emptyDir)},
		{name: "fs-group-of-secret", spec: once(`args: [see, "tree:/v"], volumeMounts: [{name: v, mountPath: /v}]`, "securityContext: {runAsUser: 1000, fsGroup: 4000}\nvolumes: [{name: v, secret: {secretName: credentials, defaultMode: 0400}}]")},
		{name: "read-only-root", spec: once(who + `, securityContext: {readOnlyRootFilesystem: true}`)},
		{name: "capabilities-dropped", spec: once(who + `, securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}, allowPrivilegeEscalation: false}`)},
		{name: "restricted", spec: once(who, "securityContext: {runAsNonRoot: true, runAsUser: 65534, seccompProfile: {type: RuntimeDefault}}")},
		{name: "shared-processes", spec: "restartPolicy: Never\nshareProcessNamespace: true\n" + emptyDir + `
containers:
- {name: app, args: [see, "until:/data/x", procs], volumeMounts: [{name: data, mountPath: /data}]}
- {name: other, args: [see, "touch:/data/x", "until:/data/y"], volumeMounts: [{name: data, mountPath: /data}]}`, until: appEnded},
		{name: "sysctl", spec: once(`args: [see, "proc:/proc/sys/net/ipv4/ip_local_port_range"]`, `securityContext: {sysctls: [{name: net.ipv4.ip_local_port_range, value: "20000 30000"}]}`)},
		{name: "containers-talk", spec: "restartPolicy: Never\n" + emptyDir + `
containers:
- {name: server, args: [see, "serve::8080", "touch:/data/up", "until:/data/asked"], volumeMounts: [{name: data, mountPath: /data}]}
- {name: client, args: [see, "until:/data/up", "get:http://127.0.0.1:8080/", "touch:/data/asked"], volumeMounts: [{name: data, mountPath: /data}]}`},
	}
}

// appEnded is the first container's end.
func appEnded(pod *corev1.Pod) bool {
	return len(pod.Status.ContainerStatuses) > 0 && pod.Status.ContainerStatuses[0].State.Terminated != nil
}

// scheduling: resources, classes, and what chooses a node.
func scheduling() []shape {
	const limited = `args: [see, "env:X"], `
	return []shape{
		{name: "burstable", spec: once(limited + `resources: {requests: {cpu: 10m, memory: 16Mi}}`)},
		{name: "guaranteed", spec: once(limited + `resources: {limits: {cpu: 50m, memory: 32Mi}}`)},
		{name: "resources-of-the-pod", spec: once(limited+`env: []`, "resources: {requests: {cpu: 20m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}")},
		{name: "too-large", until: unschedulable, spec: once(`args: [see], resources: {requests: {cpu: 4k}}`)},

		{name: "wrong-architecture", until: unschedulable, spec: once(limited+`env: []`, "nodeSelector: {kubernetes.io/arch: s390x}")},
		{name: "scheduling-gate", until: gated, spec: once(limited+`env: []`, "schedulingGates: [{name: example.com/wait}]")},
		{name: "linux", spec: once(limited+`env: []`, "os: {name: linux}\nnodeSelector: {kubernetes.io/os: linux}\naffinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]}]}}}")},
		{name: "spread", spec: once(limited+`env: []`, "topologySpreadConstraints: [{maxSkew: 5, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {none: such}}}]")},
		{name: "priority-class", spec: once(limited+`env: []`, "priorityClassName: system-cluster-critical")},
		{name: "long-grace", until: ready, spec: always(`args: [ignore-term]`, "terminationGracePeriodSeconds: 30")},
		{name: "host-port", until: ready, refused: true, spec: always(`args: [serve], ports: [{containerPort: 8080, hostPort: 18080}]`)},
		{name: "image-pull-secret", spec: once(limited+`env: []`, "imagePullSecrets: [{name: none}]")},
	}
}

func unschedulable(pod *corev1.Pod) bool { return has(pod, corev1.PodScheduled, corev1.ConditionFalse) }

func gated(pod *corev1.Pod) bool { return unschedulable(pod) }
