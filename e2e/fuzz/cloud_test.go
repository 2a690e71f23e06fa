package fuzz

import corev1 "k8s.io/api/core/v1"

// foreignVolume returns a source that somebody else's storage serves.
func (d *dice) foreignVolume() corev1.VolumeSource {
	if d.bool() {
		return d.networkVolume()
	}
	return d.cloudVolume()
}

func (d *dice) networkVolume() corev1.VolumeSource {
	return oneOf(d,
		func(s *corev1.VolumeSource) {
			s.GitRepo = &corev1.GitRepoVolumeSource{Repository: "https://git.example.com/x", Revision: "main", Directory: pick(d, "", "src")}
		},
		func(s *corev1.VolumeSource) {
			s.NFS = &corev1.NFSVolumeSource{Server: "nfs.example.com", Path: "/" + d.path(), ReadOnly: d.bool()}
		},
		func(s *corev1.VolumeSource) { s.ISCSI = d.iscsi() },
		func(s *corev1.VolumeSource) {
			s.Glusterfs = &corev1.GlusterfsVolumeSource{EndpointsName: "gluster", Path: d.path(), ReadOnly: d.bool()}
		},
		func(s *corev1.VolumeSource) {
			s.RBD = &corev1.RBDVolumeSource{CephMonitors: []string{"192.0.2.1:6789"}, RBDImage: "image", FSType: d.fsType(), RBDPool: "pool",
				RadosUser: "admin", Keyring: "/etc/ceph/keyring", SecretRef: d.secretPointer(), ReadOnly: d.bool()}
		},
		func(s *corev1.VolumeSource) {
			s.CephFS = &corev1.CephFSVolumeSource{Monitors: []string{"192.0.2.1:6789"}, Path: "/", User: "admin", SecretFile: "/etc/ceph/s",
				SecretRef: d.secretPointer(), ReadOnly: d.bool()}
		},
		func(s *corev1.VolumeSource) {
			lun := d.Int32N(256)
			s.FC = &corev1.FCVolumeSource{TargetWWNs: []string{"500a0982991b8dc5"}, Lun: &lun, FSType: d.fsType(), ReadOnly: d.bool()}
			if d.bool() {
				s.FC.TargetWWNs, s.FC.WWIDs = nil, []string{"3600508b400105e210000900000490000"}
			}
		},
		func(s *corev1.VolumeSource) {
			s.FlexVolume = &corev1.FlexVolumeSource{Driver: "example.com/flex", FSType: d.fsType(), SecretRef: d.secretPointer(), ReadOnly: d.bool(),
				Options: map[string]string{"example.com/option": d.text()}}
		},
		func(s *corev1.VolumeSource) {
			s.Flocker = pick(d, &corev1.FlockerVolumeSource{DatasetName: "set"}, &corev1.FlockerVolumeSource{DatasetUUID: "a1b2"})
		},
		func(s *corev1.VolumeSource) {
			s.Quobyte = &corev1.QuobyteVolumeSource{Registry: "192.0.2.1:7861,192.0.2.2:7861", Volume: "v", ReadOnly: d.bool(), User: "u", Group: "g", Tenant: "t"}
		},
	)
}

func (d *dice) iscsi() *corev1.ISCSIVolumeSource {
	v := &corev1.ISCSIVolumeSource{TargetPortal: "192.0.2.1:3260", IQN: "iqn.2001-04.com.example:storage", Lun: d.Int32N(256), ISCSIInterface: pick(d, "", "default"),
		FSType: d.fsType(), ReadOnly: d.bool(), Portals: []string{"192.0.2.2:3260"}, SecretRef: d.secretPointer(),
		InitiatorName: maybe(d, 50, func() string { return "iqn.1994-05.com.redhat:a1b2" })}
	if v.SecretRef != nil {
		v.DiscoveryCHAPAuth, v.SessionCHAPAuth = d.bool(), d.bool()
	}
	return v
}

func (d *dice) cloudVolume() corev1.VolumeSource {
	return oneOf(d,
		func(s *corev1.VolumeSource) {
			s.GCEPersistentDisk = &corev1.GCEPersistentDiskVolumeSource{PDName: "disk", FSType: d.fsType(), Partition: d.Int32N(256), ReadOnly: d.bool()}
		},
		func(s *corev1.VolumeSource) {
			s.AWSElasticBlockStore = &corev1.AWSElasticBlockStoreVolumeSource{VolumeID: "vol-0a", FSType: d.fsType(), Partition: d.Int32N(256), ReadOnly: d.bool()}
		},
		func(s *corev1.VolumeSource) {
			s.Cinder = &corev1.CinderVolumeSource{VolumeID: "v", FSType: d.fsType(), ReadOnly: d.bool(), SecretRef: d.secretPointer()}
		},
		func(s *corev1.VolumeSource) {
			s.AzureFile = &corev1.AzureFileVolumeSource{SecretName: d.secret().Name, ShareName: "share", ReadOnly: d.bool()}
		},
		func(s *corev1.VolumeSource) { s.AzureDisk = d.azureDisk() },
		func(s *corev1.VolumeSource) {
			s.VsphereVolume = &corev1.VsphereVirtualDiskVolumeSource{VolumePath: "[ds] v.vmdk", FSType: d.fsType(), StoragePolicyName: "gold", StoragePolicyID: "7"}
		},
		func(s *corev1.VolumeSource) {
			s.PhotonPersistentDisk = &corev1.PhotonPersistentDiskVolumeSource{PdID: "p", FSType: d.fsType()}
		},
		func(s *corev1.VolumeSource) {
			s.PortworxVolume = &corev1.PortworxVolumeSource{VolumeID: "p", FSType: d.fsType(), ReadOnly: d.bool()}
		},
		func(s *corev1.VolumeSource) {
			secret := d.secret()
			s.ScaleIO = &corev1.ScaleIOVolumeSource{Gateway: "https://sio.example.com", System: "s", SecretRef: &secret, SSLEnabled: d.bool(), ProtectionDomain: "d",
				StoragePool: "p", StorageMode: "ThinProvisioned", VolumeName: "v", FSType: d.fsType(), ReadOnly: d.bool()}
		},
		func(s *corev1.VolumeSource) {
			s.StorageOS = &corev1.StorageOSVolumeSource{VolumeName: "v", VolumeNamespace: "elsewhere", FSType: d.fsType(), ReadOnly: d.bool(), SecretRef: d.secretPointer()}
		},
	)
}

func (d *dice) azureDisk() *corev1.AzureDiskVolumeSource {
	v := &corev1.AzureDiskVolumeSource{DiskName: "d", DataDiskURI: "https://example.blob.core.windows.net/c/d.vhd", FSType: maybe(d, 50, d.fsType), ReadOnly: maybe(d, 50, d.bool),
		CachingMode: maybe(d, 50, func() corev1.AzureDataDiskCachingMode {
			return pick(d, corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly)
		})}
	if d.bool() {
		kind := corev1.AzureManagedDisk
		v.Kind, v.DataDiskURI = &kind, "/subscriptions/s/resourcegroups/g/providers/microsoft.compute/disks/d"
	}
	return v
}
