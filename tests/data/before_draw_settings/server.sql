BEGIN TRANSACTION;
CREATE TABLE artifacts (
                id TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                sha256 TEXT NOT NULL REFERENCES blobs (sha256),
                media_type TEXT NOT NULL,
                bytes BIGINT NOT NULL,
                temporary INTEGER NOT NULL,
                created_at BIGINT NOT NULL);
INSERT INTO "artifacts" VALUES('art_2aaf9d6ac1dad9318be45311','alice','b4b9aa30fd0f0335fc43ae6ceb0e11eaa9b2cad8a8d765e5e48d743d1b3cddcd','image/png',9,0,1800000000000000);
CREATE TABLE attempts (
                lease TEXT PRIMARY KEY,
                job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
                frame INTEGER NOT NULL,
                attempt INTEGER NOT NULL,
                worker TEXT NOT NULL,
                steps INTEGER NOT NULL,
                started_at BIGINT NOT NULL,
                ended_at BIGINT,
                outcome TEXT);
INSERT INTO "attempts" VALUES('lease_0d52cd937d9518300b4c36b8','job_cde556592b3cdb149e4a9cb9',0,1,'worker',2,1800000000000000,1800000000000000,'succeeded');
CREATE TABLE blobs (
                sha256 TEXT PRIMARY KEY,
                bytes BIGINT NOT NULL,
                created_at BIGINT NOT NULL);
INSERT INTO "blobs" VALUES('b4b9aa30fd0f0335fc43ae6ceb0e11eaa9b2cad8a8d765e5e48d743d1b3cddcd',9,1800000000000000);
CREATE TABLE character_references (
                id TEXT PRIMARY KEY,
                character TEXT NOT NULL REFERENCES characters (id) ON DELETE CASCADE,
                position INTEGER NOT NULL,
                artifact TEXT NOT NULL REFERENCES artifacts (id),
                quality TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                UNIQUE (character, artifact));
CREATE TABLE characters (
                id TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                name TEXT NOT NULL,
                name_key TEXT NOT NULL,
                description TEXT NOT NULL,
                strength DOUBLE PRECISION,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                UNIQUE (owner, name_key));
CREATE TABLE events (
                job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
                id BIGINT NOT NULL,
                type TEXT NOT NULL,
                frame INTEGER,
                at BIGINT NOT NULL,
                data TEXT NOT NULL,
                artifact TEXT,
                PRIMARY KEY (job, id));
INSERT INTO "events" VALUES('job_cde556592b3cdb149e4a9cb9',1,'queued',NULL,1800000000000000,'{"position": 0}',NULL);
INSERT INTO "events" VALUES('job_cde556592b3cdb149e4a9cb9',2,'started',0,1800000000000000,'{"step": 0, "steps": 2, "attempt": 1}',NULL);
INSERT INTO "events" VALUES('job_cde556592b3cdb149e4a9cb9',3,'frame',0,1800000000000000,'{"version": 1, "seed": 8460039263887321263, "artifact": "art_2aaf9d6ac1dad9318be45311"}','art_2aaf9d6ac1dad9318be45311');
INSERT INTO "events" VALUES('job_cde556592b3cdb149e4a9cb9',4,'score',0,1800000000000000,'{"identity": 0.5}',NULL);
INSERT INTO "events" VALUES('job_29b35780658dcec12b80043c',1,'queued',NULL,1800000000000000,'{"position": 0}',NULL);
CREATE TABLE frame_versions (
                story TEXT NOT NULL,
                frame INTEGER NOT NULL,
                version INTEGER NOT NULL,
                artifact TEXT NOT NULL REFERENCES artifacts (id),
                seed BIGINT NOT NULL,
                prompt TEXT NOT NULL,
                job TEXT NOT NULL,
                scores TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                PRIMARY KEY (story, frame, version),
                FOREIGN KEY (story, frame) REFERENCES story_frames (story, frame)
                    ON DELETE CASCADE);
INSERT INTO "frame_versions" VALUES('sto_729c3d0331f0a342d40e5194',0,1,'art_2aaf9d6ac1dad9318be45311',8460039263887321263,'{Mia} and {old Bo Bear}','job_cde556592b3cdb149e4a9cb9','{"identity": 0.5}',1800000000000000);
CREATE TABLE idempotency (
                owner TEXT NOT NULL,
                end_user TEXT NOT NULL,
                key TEXT NOT NULL,
                request_hash TEXT NOT NULL,
                job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
                PRIMARY KEY (owner, end_user, key));
INSERT INTO "idempotency" VALUES('alice','ann','key','hash','job_cde556592b3cdb149e4a9cb9');
CREATE TABLE job_frames (
                job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
                frame INTEGER NOT NULL,
                story TEXT NOT NULL,
                version INTEGER NOT NULL,
                seed BIGINT NOT NULL,
                steps INTEGER NOT NULL,
                step INTEGER NOT NULL,
                state TEXT NOT NULL,
                attempt INTEGER NOT NULL,
                cancelling INTEGER NOT NULL,
                queued_at BIGINT NOT NULL,
                lease TEXT UNIQUE,
                lease_expires_at BIGINT,
                artifact TEXT,
                scores TEXT NOT NULL,
                problem TEXT,
                prompt TEXT,
                plan TEXT NOT NULL,
                PRIMARY KEY (job, frame),
                UNIQUE (story, frame, version));
INSERT INTO "job_frames" VALUES('job_cde556592b3cdb149e4a9cb9',0,'sto_729c3d0331f0a342d40e5194',1,8460039263887321263,2,2,'succeeded',1,0,1800000000000000,NULL,NULL,'art_2aaf9d6ac1dad9318be45311','{"identity": 0.5}',NULL,NULL,'{"frame": 0, "seed": 8460039263887321263}');
INSERT INTO "job_frames" VALUES('job_cde556592b3cdb149e4a9cb9',1,'sto_729c3d0331f0a342d40e5194',1,4520398760180194836,2,0,'queued',0,0,1800000000000000,NULL,NULL,NULL,'{}',NULL,NULL,'{"frame": 1, "seed": 4520398760180194836}');
INSERT INTO "job_frames" VALUES('job_cde556592b3cdb149e4a9cb9',2,'sto_729c3d0331f0a342d40e5194',1,4611686018427387904,2,0,'queued',0,0,1800000000000000,NULL,NULL,NULL,'{}',NULL,NULL,'{"frame": 2, "seed": 4611686018427387904}');
INSERT INTO "job_frames" VALUES('job_cde556592b3cdb149e4a9cb9',3,'sto_729c3d0331f0a342d40e5194',1,1918237454198817238,2,0,'queued',0,0,1800000000000000,NULL,NULL,NULL,'{}',NULL,NULL,'{"frame": 3, "seed": 1918237454198817238}');
INSERT INTO "job_frames" VALUES('job_29b35780658dcec12b80043c',0,'sto_729c3d0331f0a342d40e5194',2,99,2,0,'queued',0,0,1800000000000000,NULL,NULL,NULL,'{}',NULL,'a blue cat','{}');
CREATE TABLE jobs (
                id TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                end_user TEXT NOT NULL,
                kind TEXT NOT NULL,
                story TEXT NOT NULL REFERENCES stories (id) ON DELETE CASCADE,
                bulk INTEGER NOT NULL,
                state TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                deadline_s DOUBLE PRECISION,
                deadline_at BIGINT,
                next_event BIGINT NOT NULL,
                plan TEXT NOT NULL);
INSERT INTO "jobs" VALUES('job_cde556592b3cdb149e4a9cb9','alice','ann','story','sto_729c3d0331f0a342d40e5194',0,'running',1800000000000000,1800000000000000,NULL,NULL,5,'{"schema": 1, "story": {"title": "Two  friends: \u00e9", "frames": [{"prompt": "{Mia} and {old Bo Bear}", "caption": "They \"meet\": hello\n  there", "negative": ""}, {"prompt": "{Mia}  reading in the forest", "style": "pencil", "negative": "old HAT"}, {"prompt": "{Bo Bear} walking", "seed": 4611686018427387904, "negative": ""}, {"prompt": "a green fox", "negative": ""}], "characters": {"Mia": {"description": "a girl with a red hat", "strength": 0.5}, "Bo Bear": {"description": "a small bear"}}, "method": "consistory", "scheduler": "dpm", "seed": 7, "steps": 2, "guidance": 3.25, "contours": 2.0, "guidance_until": 0.5, "size": "64x64", "preview_every": 0, "bulk": false}, "version": 1, "prompt": null, "references": {}, "preview_every": 0}');
INSERT INTO "jobs" VALUES('job_29b35780658dcec12b80043c','alice','ann','reroll','sto_729c3d0331f0a342d40e5194',0,'queued',1800000000000000,1800000000000000,NULL,NULL,2,'{"schema": 1, "story": {"title": "Two  friends: \u00e9", "frames": [{"prompt": "{Mia} and {old Bo Bear}", "caption": "They \"meet\": hello\n  there", "negative": ""}, {"prompt": "{Mia}  reading in the forest", "style": "pencil", "negative": "old HAT"}, {"prompt": "{Bo Bear} walking", "seed": 4611686018427387904, "negative": ""}, {"prompt": "a green fox", "negative": ""}], "characters": {"Mia": {"description": "a girl with a red hat", "strength": 0.5}, "Bo Bear": {"description": "a small bear"}}, "method": "consistory", "scheduler": "dpm", "seed": 7, "steps": 2, "guidance": 3.25, "contours": 2.0, "guidance_until": 0.5, "size": "64x64", "preview_every": 0, "bulk": false}, "frame": 0, "version": 2, "seed": 99, "prompt": "a blue cat", "references": {}, "preview_every": 4}');
CREATE TABLE migrations (name TEXT PRIMARY KEY);
INSERT INTO "migrations" VALUES('0001_artifacts');
INSERT INTO "migrations" VALUES('0002_stories');
INSERT INTO "migrations" VALUES('0003_jobs');
INSERT INTO "migrations" VALUES('0004_library');
CREATE TABLE stories (
                id TEXT PRIMARY KEY,
                owner TEXT NOT NULL,
                title TEXT NOT NULL,
                layout TEXT NOT NULL,
                revision BIGINT NOT NULL,
                created_at BIGINT NOT NULL,
                updated_at BIGINT NOT NULL,
                request TEXT NOT NULL);
INSERT INTO "stories" VALUES('sto_729c3d0331f0a342d40e5194','alice','Two  friends: é','grid',1,1800000000000000,1800000000000000,'{"title":"Two  friends: é","frames":[{"prompt":"{Mia} and {old Bo Bear}","caption":"They \"meet\": hello\n  there","style":null,"seed":null,"negative":""},{"prompt":"{Mia}  reading in the forest","caption":null,"style":"pencil","seed":null,"negative":"old HAT"},{"prompt":"{Bo Bear} walking","caption":null,"style":null,"seed":4611686018427387904,"negative":""},{"prompt":"a green fox","caption":null,"style":null,"seed":null,"negative":""}],"characters":{"Mia":{"description":"a girl with a red hat","strength":0.5,"library":null},"Bo Bear":{"description":"a small bear","strength":null,"library":null}},"style":null,"method":"consistory","scheduler":"dpm","seed":7,"steps":2,"guidance":3.25,"contours":2.0,"guidance_until":0.5,"size":"64x64","preview_every":0,"deadline_s":null,"bulk":false}');
CREATE TABLE story_frames (
                story TEXT NOT NULL REFERENCES stories (id) ON DELETE CASCADE,
                frame INTEGER NOT NULL,
                caption TEXT NOT NULL,
                bubbles TEXT NOT NULL,
                current_version INTEGER,
                last_version INTEGER NOT NULL,
                PRIMARY KEY (story, frame));
INSERT INTO "story_frames" VALUES('sto_729c3d0331f0a342d40e5194',0,'They "meet": hello
  there','[]',1,2);
INSERT INTO "story_frames" VALUES('sto_729c3d0331f0a342d40e5194',1,'','[]',NULL,1);
INSERT INTO "story_frames" VALUES('sto_729c3d0331f0a342d40e5194',2,'','[]',NULL,1);
INSERT INTO "story_frames" VALUES('sto_729c3d0331f0a342d40e5194',3,'','[]',NULL,1);
CREATE TABLE turns (name TEXT PRIMARY KEY, state TEXT NOT NULL);
INSERT INTO "turns" VALUES('interactive','{"owners": {"order": ["alice"], "saved": {"alice": 8}, "granted": true}, "users": {"alice": {"order": ["ann"], "saved": {"ann": 8}, "granted": true}}}');
INSERT INTO "turns" VALUES('bulk','{"owners": {"order": [], "saved": {}, "granted": false}, "users": {}}');
CREATE INDEX artifacts_by_owner ON artifacts (owner, temporary, bytes);
CREATE INDEX artifacts_by_content ON artifacts (sha256);
CREATE INDEX artifacts_temporary ON artifacts (created_at) WHERE temporary = 1;
CREATE INDEX stories_by_owner ON stories (owner, created_at, id);
CREATE INDEX frame_versions_by_artifact ON frame_versions (artifact);
CREATE INDEX jobs_by_owner ON jobs (owner, created_at, id);
CREATE INDEX jobs_by_story ON jobs (story);
CREATE INDEX jobs_unfinished ON jobs (owner) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_by_deadline ON jobs (deadline_at)
                WHERE state IN ('queued', 'running');
CREATE INDEX job_frames_by_state ON job_frames (state, job, steps, queued_at);
CREATE INDEX job_frames_by_expiry ON job_frames (lease_expires_at)
                WHERE lease_expires_at IS NOT NULL;
CREATE INDEX attempts_by_job ON attempts (job);
CREATE INDEX attempts_by_end ON attempts (outcome, ended_at);
CREATE INDEX events_by_artifact ON events (artifact) WHERE artifact IS NOT NULL;
CREATE INDEX idempotency_by_job ON idempotency (job);
CREATE INDEX character_references_by_artifact ON character_references (artifact);
COMMIT;
PRAGMA user_version = 0;
