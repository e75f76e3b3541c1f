// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/yaml"
)

// AuditLog is the file in Options.LogDir where the API server writes what Options.Audited ask for: an audit.k8s.io/v1 Event a line.
const AuditLog = "audit.log"

// auditFlags make the API server log who asks for what, without contents. A watch is logged when it begins.
func (cp *ControlPlane) auditFlags() ([]string, error) {
	if len(cp.opts.Audited) == 0 {
		return nil, nil
	}
	policy := auditv1.Policy{
		TypeMeta:   metav1.TypeMeta{APIVersion: auditv1.SchemeGroupVersion.String(), Kind: "Policy"},
		OmitStages: []auditv1.Stage{auditv1.StageRequestReceived},
		Rules:      []auditv1.PolicyRule{{Level: auditv1.LevelMetadata, Users: cp.opts.Audited}, {Level: auditv1.LevelNone}},
	}
	text, err := yaml.Marshal(policy)
	if err != nil {
		return nil, err
	}
	file := cp.path("audit-policy.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	return []string{
		"--audit-policy-file=" + file, "--audit-log-path=" + filepath.Join(cp.opts.LogDir, AuditLog), "--audit-log-mode=batch",
	}, nil
}
