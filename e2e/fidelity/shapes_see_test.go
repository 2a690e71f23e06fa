package fidelity

// environment: variables of every origin.
func environment() []shape {
	fields := `env: [
    {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}},
    {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}},
    {name: UID_, valueFrom: {fieldRef: {fieldPath: metadata.uid}}},
    {name: TEAM, valueFrom: {fieldRef: {fieldPath: "metadata.labels['example.com/team']"}}},
    {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['example.com/note']"}}},
    {name: NODE_, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}},
    {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}},
    {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
    {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}], args: `
	limits := `resources: {requests: {cpu: 10m, memory: 16Mi, ephemeral-storage: 1Mi}, limits: {cpu: 500m, memory: 64Mi, ephemeral-storage: 8Mi}}, env: [
    {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}},
    {name: CPUS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}},
    {name: MEMORY, valueFrom: {resourceFieldRef: {containerName: app, resource: requests.memory, divisor: 1Mi}}},
    {name: DISK, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage}}}], args: `
	return []shape{
		{name: "env-literal", spec: once(`env: [{name: A, value: "1"}, {name: B, value: "$(A)2"}, {name: C, value: "$$(A)"}, {name: D}], args: ` + list([]string{"see", "env:A", "env:B", "env:C", "env:D", "env:E"}))},
		{name: "env-of-config-maps-and-secrets", spec: once(`envFrom: [{configMapRef: {name: none, optional: true}}, {secretRef: {name: none, optional: true}}], env: [
    {name: A, valueFrom: {configMapKeyRef: {name: settings, key: COLOUR}}},
    {name: B, valueFrom: {configMapKeyRef: {name: fixed, key: FIXED}}},
    {name: C, valueFrom: {secretKeyRef: {name: credentials, key: PASSWORD}}},
    {name: D, valueFrom: {secretKeyRef: {name: login, key: username}}},
    {name: E, valueFrom: {configMapKeyRef: {name: none, key: X, optional: true}}},
    {name: F, valueFrom: {secretKeyRef: {name: none, key: X, optional: true}}},
    {name: G, valueFrom: {configMapKeyRef: {name: settings, key: NOPE, optional: true}}}], args: ` +
			list([]string{"see", "env:A", "env:B", "env:C", "env:D", "env:E", "env:F", "env:G"}))},
		{name: "env-of-missing-config-map", warns: "Failed", until: waiting("CreateContainerConfigError"), spec: once(`env: [{name: A, valueFrom: {configMapKeyRef: {name: none, key: X}}}], args: [see]`)},
		{name: "env-of-missing-secret", warns: "Failed", until: waiting("CreateContainerConfigError"), spec: once(`env: [{name: A, valueFrom: {secretKeyRef: {name: none, key: X}}}], args: [see]`)},
		{name: "env-of-missing-key", until: waiting("CreateContainerConfigError"), spec: once(`env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: NOPE}}}], args: [see]`)},
		{name: "env-of-fields", spec: once(fields + list([]string{"see", "env:NAME", "env:NAMESPACE", "env:UID_", "env:TEAM", "env:NOTE", "env:NODE_", "env:ACCOUNT", "env:IP", "env:IPS"}))},
		{name: "env-of-host-ip", spec: once(`env: [{name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}], args: [see, "env:HOST"]`),
			differs: map[string]reason{"app sees env:HOST": hostAddress}},
		{name: "env-of-resources", spec: once(limits + list([]string{"see", "env:CPU", "env:CPUS", "env:MEMORY", "env:DISK"}))},
		{name: "env-from", spec: once(`envFrom: [{configMapRef: {name: settings}}, {prefix: S_, secretRef: {name: credentials}}, {prefix: "E_", configMapRef: {name: empty}}], args: ` +
			list([]string{"see", "env:COLOUR", "env:SIZE", "env:app.conf", "env:S_USER", "env:S_PASSWORD", "env:USER"}))},
		{name: "env-from-missing", until: waiting("CreateContainerConfigError"), spec: once(`envFrom: [{configMapRef: {name: none}}], args: [see]`)},
		{name: "address-of-the-api-server", spec: see("env:KUBERNETES_SERVICE_HOST", "env:KUBERNETES_SERVICE_PORT"),
			differs: map[string]reason{"app sees env:KUBERNETES_SERVICE_HOST": apiServer}},
		{name: "no-service-links", spec: once(`args: [see, "env:KUBERNETES_SERVICE_PORT_HTTPS", "env:FRONT_SERVICE_PORT"]`, "enableServiceLinks: false")},
	}
}

// files: volumes of every kind that the lab has.
func files() []shape {
	mounted := func(volume, container string, words ...string) string {
		return once(container+"args: "+list(append([]string{"see"}, words...))+`, volumeMounts: [{name: v, mountPath: /v}]`, "volumes: [{name: v, "+volume+"}]")
	}
	downward := `downwardAPI: {items: [
    {path: name, fieldRef: {fieldPath: metadata.name}}, {path: namespace, fieldRef: {fieldPath: metadata.namespace}},
    {path: uid, fieldRef: {fieldPath: metadata.uid}}, {path: team, fieldRef: {fieldPath: "metadata.labels['example.com/team']"}},
    {path: deep/cpu, mode: 0400, resourceFieldRef: {containerName: app, resource: limits.cpu, divisor: 1m}}]}`
	const withLimits = `resources: {requests: {cpu: 10m}, limits: {cpu: 500m}}, `
	return []shape{
		{name: "volume-of-config-map", spec: mounted(`configMap: {name: settings}`, "", "tree:/v", "mount:/v", "write:/v/x")},
		{name: "volume-of-config-map-items", spec: mounted(`configMap: {name: settings, defaultMode: 0440, items: [{key: COLOUR, path: deep/colour}, {key: app.conf, path: conf, mode: 0600}]}`, "", "tree:/v")},
		{name: "volume-of-config-map-sub-path", spec: once(`args: [see, "file:/etc/app.conf", "mount:/etc/app.conf"], volumeMounts: [{name: v, mountPath: /etc/app.conf, subPath: app.conf, readOnly: true}]`, "volumes: [{name: v, configMap: {name: settings}}]")},
		{name: "volumes-of-nothing", spec: once(`args: [see, "tree:/v", "tree:/w"], volumeMounts: [{name: v, mountPath: /v}, {name: w, mountPath: /w}]`, "volumes: [{name: v, configMap: {name: empty}}, {name: w, secret: {secretName: none, optional: true}}]")},
		{name: "volume-of-missing-config-map", warns: "FailedMount", until: waiting("ContainerCreating"), spec: mounted(`configMap: {name: none}`, "")},
		{name: "volume-of-missing-secret", warns: "FailedMount", until: waiting("ContainerCreating"), spec: mounted(`secret: {secretName: none}`, "")},
		{name: "volume-of-missing-key", warns: "FailedMount", until: waiting("ContainerCreating"), spec: mounted(`configMap: {name: settings, items: [{key: NOPE, path: x}]}`, "")},
		{name: "volume-of-secret", spec: mounted(`secret: {secretName: credentials}`, "", "tree:/v", "mount:/v")},
		{name: "volume-of-secret-mode", spec: mounted(`secret: {secretName: credentials, defaultMode: 0400, items: [{key: USER, path: user}]}`, "", "tree:/v")},
		{name: "volume-of-fields", spec: mounted(downward, withLimits, "tree:/v")},
		{name: "volume-of-all-labels-and-annotations", spec: mounted(`downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: annotations, fieldRef: {fieldPath: metadata.annotations}}]}`, "", "file:/v/labels", "file:/v/annotations"),
			differs: map[string]reason{"app sees file:/v/labels": ownMarks, "app sees file:/v/annotations": ownMarks}},
		{name: "volume-projected", spec: mounted(`projected: {defaultMode: 0440, sources: [{configMap: {name: settings, items: [{key: COLOUR, path: colour}]}}, {secret: {name: credentials}}, {`+downward+`}]}`, withLimits, "tree:/v")},
		{name: "empty-dir-in-memory", spec: mounted(`emptyDir: {medium: Memory, sizeLimit: 1Mi}`, "", "write:/v/x", "tree:/v", "mount:/v")},
		{name: "empty-dir-with-limit", spec: mounted(`emptyDir: {sizeLimit: 8Mi}`, "", "write:/v/x", "tree:/v")},
		{name: "empty-dir-shared", spec: "restartPolicy: Never\n" + emptyDir + `
containers:
- {name: writer, args: [see, "touch:/w/x"], volumeMounts: [{name: data, mountPath: /w}]}
- {name: reader, args: [see, "until:/r/x", "tree:/r", "write:/r/y"], volumeMounts: [{name: data, mountPath: /r, readOnly: true}]}`},
		{name: "empty-dir-sub-path-expr", spec: once(`env: [{name: TEAM, valueFrom: {fieldRef: {fieldPath: "metadata.labels['example.com/team']"}}}], args: [see, "write:/one/x", "tree:/all"], volumeMounts: [{name: data, mountPath: /one, subPathExpr: $(TEAM)}, {name: data, mountPath: /all}]`, emptyDir)},
		{name: "ephemeral-claim", until: unschedulable, spec: mounted(`ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}}`, "")},
		{name: "token-of-the-service-account", spec: see("tree:/var/run/secrets/kubernetes.io/serviceaccount"),
			differs: map[string]reason{"app sees tree:/var/run/secrets/kubernetes.io/serviceaccount": serviceAccount}},
		{name: "no-token", spec: once(`args: [see, "tree:/var/run/secrets"]`, "automountServiceAccountToken: false")},
	}
}
