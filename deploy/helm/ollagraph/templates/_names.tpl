{{- define "ollagraph.fullname" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | replace "ollagraph-ollagraph" "ollagraph" | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "ollagraph.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ollagraph.labels" -}}
{{ include "ollagraph.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "ollagraph.image" -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}

{{- /* The environment of a gateway and of a migration: the settings, and where the secrets are. */ -}}
{{- define "ollagraph.environment" -}}
- name: OLLAGRAPH_SECRET_KEY_FILE
  value: /run/secrets/ollagraph/secret_key
- name: OLLAGRAPH_DATABASE_URL_FILE
  value: /run/secrets/ollagraph/database_url
- name: OLLAGRAPH_DATA_DIR
  value: /data/ollagraph
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "ollagraph.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "ollagraph.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "ollagraph.mounts" -}}
- name: secrets
  mountPath: /run/secrets/ollagraph
  readOnly: true
- name: data
  mountPath: /data
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "ollagraph.volumes" -}}
- name: secrets
  secret:
    secretName: {{ .Values.existingSecret }}
    defaultMode: 0440
- name: data
  emptyDir: {}
- name: tmp
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
{{- end }}
